"""The reconciler as a service: with its page of metrics, and one term after the other in a group of gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tfgateway.aio import together
from tfgateway.errors import ConfigError, LeaseError
from tfgateway.reconciler.group import watch
from tfgateway.reconciler.loop import opened
from tfgateway.settings import Settings
from tfgateway.telemetry import metrics
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")


async def serve(
    settings: Settings, *, stopping: asyncio.Event, ready: Callable[[], None], status: Callable[[str], None]
) -> None:
    """Reconcile until ``stopping`` is set; in a group, stand by after another member has taken the lease.

    Errors: ``ConfigError``, ``IdentityError``, ``LeaseError``: not in a group.
    """
    while True:
        try:
            await _serve(settings, stopping=stopping, ready=ready, status=status)
        except LeaseError as error:
            if not settings.redis.replica:
                raise
            _log.warning("lease lost", reason=str(error))
        else:
            return


async def _serve(
    settings: Settings, *, stopping: asyncio.Event, ready: Callable[[], None], status: Callable[[str], None]
) -> None:
    async with opened(settings) as reconciler:
        try:
            page = await metrics.serve(reconciler.registry, settings.reconciler.metrics)
        except OSError as error:
            raise ConfigError(f"reconciler.metrics: cannot listen: {error.strerror}") from error
        try:
            running = reconciler.run(stopping=stopping, ready=ready, status=status)
            await (together(running, watch(settings, reconciler.metrics)) if settings.redis.replica else running)
        finally:
            await page.cleanup()
