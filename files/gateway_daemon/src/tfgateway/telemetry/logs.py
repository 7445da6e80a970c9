"""Structured logging to standard error: one JSON object or one readable line an event."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO, cast

from tfgateway.settings import LogSettings
from tfgateway.telemetry.text import printable

if "rich" in sys.modules:
    import structlog
else:
    # structlog imports rich, attrs and pygments for tracebacks in colour, which are not used here: 80 modules, a fifth
    # of what a process takes to start. What imports rich afterwards finds it.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]

_SECRET_WORDS = ("secret", "mnemonic", "seed", "password", "private")


class _Unfailing:
    """A stream that drops what cannot be written: disk full, reader gone (EPIPE), closed.

    Logging happens everywhere, also where an error is handled: a line is worth no connection and no process.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


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
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def logger(component: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry ``component=...``."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(component=component))
