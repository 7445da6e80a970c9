"""Structured logging to standard error: one JSON object or one readable line an event."""

from __future__ import annotations

import logging
import sys
from typing import cast

import structlog

from tfgateway.settings import LogSettings
from tfgateway.telemetry.text import printable

_SECRET_WORDS = ("secret", "mnemonic", "seed", "password", "private")


def _clean(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Hide what must never be logged (T-13) and escape control characters in the rest."""
    for key, value in event.items():
        if any(word in key for word in _SECRET_WORDS):
            event[key] = "(hidden)"
        elif isinstance(value, str | bytes):
            event[key] = printable(value, 2000)
    return event


def configure(settings: LogSettings) -> None:
    """Set up logging for the process. Call once, before the first event."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _clean,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry ``room=...``."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(room=room))
