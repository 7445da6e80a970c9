"""The supervisor of a plane: systemd's main process. Small on purpose: it serves no requests and reads no redis.

It holds the listening sockets, keeps the workers complete (``worker_pool``), serves their metrics on one page, and
changes the configuration or the release without a gap (``reload``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tfgateway.errors import ConfigError
from tfgateway.plane import Plane
from tfgateway.settings import parse
from tfgateway.telemetry import logs
from tfgateway.telemetry.logs import logger
from tfgateway.workers import pool_spec, worker
from tfgateway.workers.control_socket import open_control_socket
from tfgateway.workers.listen_sockets import ListenSockets
from tfgateway.workers.metrics import page
from tfgateway.workers.notify import Notifier, watchdog_interval
from tfgateway.workers.pool_spec import PoolSpec
from tfgateway.workers.reload import config_test
from tfgateway.workers.reload.perform import BLOCKED_SIGNALS, perform
from tfgateway.workers.reload.takeover import TakeOver
from tfgateway.workers.resources import Resources

_TICK = 0.2
"""Seconds between two looks at the workers."""
_BLOCKED_TICK = 0.01
"""The same while another process has an address: between its release and our next look nothing answers."""
_SCRATCH = "tfgateway-"

_log = logger("workers")


def run(plane: Plane, config: Path) -> int:
    """Run the command ``tfgateway <plane>`` in any of its roles; the exit code. Errors: ``GatewayError``."""
    if worker.called():
        return worker.run(plane)
    program = os.path.abspath(sys.argv[0])  # noqa: PTH100 - links stay: `current` points elsewhere after a switch
    if config_test.HANDOVER in os.environ and not config_test.called():
        return _take_over(TakeOver(plane, program))
    spec = pool_spec.make(plane, program, tuple(sys.argv[1:]), _text(config), str(config))
    if config_test.called():
        worker.load(plane)  # a release that lacks something says so here
        return config_test.perform(spec)
    return asyncio.run(_begin(plane, program, spec))


def _text(config: Path) -> str:
    try:
        return config.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{config}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{config}: {error}") from error


async def _begin(plane: Plane, program: str, spec: PoolSpec) -> int:
    """Start a supervisor from scratch."""
    listeners = ListenSockets()
    listeners.prepare(spec.endpoints, spec.workers)
    listening = page.listen(plane, spec)
    given = os.environ.get("RUNTIME_DIRECTORY", "")
    runtime = Path(given or tempfile.mkdtemp(prefix=_SCRATCH))
    try:
        resources = Resources(
            plane,
            program,
            listeners=listeners,
            runtime=runtime,
            page=listening,
            control=open_control_socket(runtime),
        )

        def begin() -> None:
            resources.pool.adopt(spec, 1, was_complete=False)
            resources.control.start()

        return await Supervisor(resources).run(spec, begin)
    finally:
        if not given:
            shutil.rmtree(runtime, ignore_errors=True)


def _take_over(taken: TakeOver) -> int:
    """Start a supervisor that takes over from another release."""

    async def go_on() -> int:
        resources = taken.resources()
        return await Supervisor(resources).run(taken.state.spec, lambda: taken.complete(resources))

    try:
        return asyncio.run(go_on())
    except Exception as error:
        taken.hand_back(error)
        raise
    finally:
        if taken.state.runtime != os.environ.get("RUNTIME_DIRECTORY", ""):
            shutil.rmtree(taken.state.runtime, ignore_errors=True)


class Supervisor:
    """The main loop of a plane's supervisor."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._notifier = Notifier()
        self._stopping = False
        self._reload: asyncio.Task[str] | None = None
        self._said = ""

    def _stop(self, number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name)
        self._stopping = True
        self._resources.wake()

    # -- main loop --------------------------------------------------------------------------------------------

    async def run(self, spec: PoolSpec, begin: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT; the exit code. begin: called when nothing else is left that can fail.

        Errors: ``OSError``, or what ``begin`` raises: nothing was begun; ``GatewayError`` when the workers cannot start
        at all.
        """
        logs.configure(parse(spec.config.encode(), spec.config_name).log)
        loop, resources = asyncio.get_running_loop(), self._resources
        async with contextlib.AsyncExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop, number)
            loop.add_signal_handler(signal.SIGHUP, resources.ask_reload)
            loop.add_signal_handler(signal.SIGCHLD, resources.wake)
            # Before the loop closes: it closes its pipe for signals first, and would warn when the last children end.
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                stack.callback(loop.remove_signal_handler, number)
            await resources.page.serve()
            stack.push_async_callback(resources.page.pause)
            begin()  # the event loop does not turn from here on to the main loop: nothing is read that gets lost
            stack.callback(resources.control.close)
            stack.callback(lambda: resources.pool.kill(resources.pool.workers.values()))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
            await self._watch()
            await self._end()
        return 0

    async def _watch(self) -> None:
        resources, pool = self._resources, self._resources.pool
        interval = watchdog_interval()
        fed = announced = 0.0
        while not self._stopping:
            resources.wakeup.clear()
            pool.tick()
            if pool.fatal is not None:
                raise pool.fatal
            if pool.was_complete and not announced:
                announced = time.monotonic()
                self._notifier.send("READY=1")
            self._say(self._state_in_words())
            if interval is not None and time.monotonic() - fed >= interval:
                fed = time.monotonic()
                self._notifier.send("WATCHDOG=1")
            if not self._reloading:
                await resources.page.keep_served()
                if resources.again and pool.was_complete:
                    resources.again = False
                    self._reload = asyncio.create_task(perform(resources))
            await self._pause()

    async def _end(self) -> None:
        pool = self._resources.pool
        self._notifier.send("STOPPING=1")
        if self._reload is not None and self._reloading:
            self._reload.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reload
        pool.drain(list(pool.workers.values()))
        self._resources.listeners.discard(list(self._resources.listeners))  # before the workers drain
        while pool.workers:
            self._resources.wakeup.clear()
            self._say(f"stopping: {len(pool.workers)} workers finish")
            pool.tick(replace=False)
            if pool.workers:
                await self._pause()

    async def _pause(self) -> None:
        """Wait for a wake-up, or for one tick."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BLOCKED_TICK if self._resources.pool.blocked else _TICK):
                await self._resources.wakeup.wait()

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._notifier.send(f"STATUS={text}")

    @property
    def _reloading(self) -> bool:
        return self._reload is not None and not self._reload.done()

    def _state_in_words(self) -> str:
        pool = self._resources.pool
        wanted = pool.spec.workers if pool.spec is not None else 0
        parts = [f"generation {pool.generation}, {pool.serving} of {wanted} workers"]
        parts += sorted({one.status for one in pool.active(pool.generation) if one.status})
        if pool.draining:
            parts.append(f"{pool.draining} finishing")
        if self._reloading:
            parts.append("reloading")
        elif self._reload is not None and (refused := self._reload.result()):
            parts.append(f"reload failed: {refused}")
        parts += filter(None, (self._resources.remark, pool.trouble))
        return "; ".join(parts)
