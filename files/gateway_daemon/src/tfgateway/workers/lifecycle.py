"""Start and stop of one process: signals become an event, systemd gets its state."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

from tfgateway.telemetry.logs import logger
from tfgateway.workers.notify import Notifier, watchdog_interval

_log = logger("workers")


class Lifecycle:
    """Signals and notifications of a process, for a plane's main coroutine."""

    def __init__(self, notifier: Notifier) -> None:
        self.stopping = asyncio.Event()
        """Set by SIGTERM or SIGINT: stop accepting, drain, return."""
        self._notifier = notifier
        self._reload: Callable[[], None] | None = None

    def on_reload(self, reload: Callable[[], None]) -> None:
        """Set what SIGHUP does; by default nothing."""
        self._reload = reload

    def reload(self) -> None:
        """Handle SIGHUP: a terminal that closes is no reason to stop serving."""
        if self._reload is None:
            _log.info("SIGHUP ignored")
        else:
            self._reload()

    def ready(self) -> None:
        """Report ``READY=1``: the process serves."""
        self._notifier.send("READY=1")

    def status(self, text: str) -> None:
        """Report one line for ``systemctl status``."""
        self._notifier.send(f"STATUS={text}")

    def stop(self) -> None:
        """Ask for an orderly end, as SIGTERM does; again is harmless."""
        if not self.stopping.is_set():
            self._notifier.send("STOPPING=1")
            self.stopping.set()


def run(main: Callable[[Lifecycle], Awaitable[None]]) -> int:
    """Run ``main`` in an event loop of its own until it returns; exit code 0. What ``main`` raises is passed on."""
    asyncio.run(_supervise(main))
    return 0


async def _supervise(main: Callable[[Lifecycle], Awaitable[None]]) -> None:
    notifier = Notifier()
    lifecycle = Lifecycle(notifier)
    loop = asyncio.get_running_loop()

    def asked_to_stop(name: str) -> None:
        _log.info("stopping", signal=name)
        lifecycle.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop, number.name)
    loop.add_signal_handler(signal.SIGHUP, lifecycle.reload)

    interval = watchdog_interval()
    watchdog = asyncio.create_task(_ping(notifier, interval)) if interval is not None else None
    try:
        await main(lifecycle)
    finally:
        lifecycle.stop()
        if watchdog is not None:
            watchdog.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watchdog


async def _ping(notifier: Notifier, interval: float) -> None:
    """Ping from the event loop itself: when it hangs, the pings end and systemd restarts the unit."""
    while True:
        notifier.send("WATCHDOG=1")
        await asyncio.sleep(interval)
