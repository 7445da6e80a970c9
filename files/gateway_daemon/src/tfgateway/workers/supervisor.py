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

from prometheus_client.exposition import generate_latest

from tfgateway.errors import ConfigError
from tfgateway.plane import Plane
from tfgateway.settings import parse
from tfgateway.telemetry import logs
from tfgateway.telemetry.logs import logger
from tfgateway.workers import planning, worker
from tfgateway.workers.control_socket import open_control_socket
from tfgateway.workers.listen_sockets import ListenSockets
from tfgateway.workers.metrics import page
from tfgateway.workers.metrics.merged import Family, Page, merge
from tfgateway.workers.metrics.own import own_families
from tfgateway.workers.notify import Notifier, watchdog_interval
from tfgateway.workers.planning import Plan
from tfgateway.workers.reload import config_test
from tfgateway.workers.reload.perform import HELD, perform
from tfgateway.workers.reload.takeover import TakeOver
from tfgateway.workers.resources import Resources

_TICK = 0.2
"""Seconds between two looks at the workers."""
_BLOCKED_TICK = 0.01
"""The same while another process has an address: between its release and our next look nothing answers."""
_FRESH = 0.5
"""Seconds that the page waits for current metrics; then it shows those of a second ago."""
_SCRATCH = "tfgateway-"

_log = logger("workers")


def run(plane: Plane, config: Path) -> int:
    """Run the command ``tfgateway <plane>`` in any of its roles; the exit code. Errors: ``GatewayError``."""
    if worker.called():
        return worker.run(plane)
    program = os.path.abspath(sys.argv[0])  # noqa: PTH100 - links stay: `current` points elsewhere after a switch
    if config_test.HANDOVER in os.environ and not config_test.called():
        return _take_over(TakeOver(plane, program))
    plan = planning.make(plane, program, tuple(sys.argv[1:]), _text(config), str(config))
    if config_test.called():
        worker.load(plane)  # a release that lacks something says so here
        return config_test.perform(plan)
    return asyncio.run(_begin(plane, program, plan))


def _text(config: Path) -> str:
    try:
        return config.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{config}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{config}: {error}") from error


async def _begin(plane: Plane, program: str, plan: Plan) -> int:
    """Start a supervisor from scratch."""
    listeners = ListenSockets()
    listeners.prepare(plan.endpoints, plan.workers)
    listening = page.listen(plane, plan)
    given = os.environ.get("RUNTIME_DIRECTORY", "")
    runtime = Path(given or tempfile.mkdtemp(prefix=_SCRATCH))
    supervisor = Supervisor()
    try:
        held = supervisor.held = Resources(
            plane,
            program,
            listeners=listeners,
            runtime=runtime,
            page=listening,
            control=open_control_socket(runtime),
            render=supervisor.render,
        )

        def begin() -> None:
            held.pool.adopt(plan, 1, settled=False)
            held.control.start()

        return await supervisor.run(plan, begin)
    finally:
        if not given:
            shutil.rmtree(runtime, ignore_errors=True)


def _take_over(taken: TakeOver) -> int:
    """Start a supervisor that takes over from another release."""

    async def go_on() -> int:
        supervisor = Supervisor()
        held = supervisor.held = taken.resources(supervisor.render)
        return await supervisor.run(taken.state.plan, lambda: taken.complete(held))

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

    held: Resources

    def __init__(self) -> None:
        self._notifier = Notifier()
        self._stopping = False
        self._reload: asyncio.Task[str] | None = None
        self._said = ""
        self._token = 0

    def _stop(self, number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name)
        self._stopping = True
        self.held.wake()

    # -- main loop --------------------------------------------------------------------------------------------

    async def run(self, plan: Plan, begin: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT; the exit code. begin: called when nothing else is left that can fail.

        Errors: ``OSError``, or what ``begin`` raises: nothing was begun; ``GatewayError`` when the workers cannot start
        at all.
        """
        logs.configure(parse(plan.config.encode(), plan.config_name).log)
        loop, held = asyncio.get_running_loop(), self.held
        async with contextlib.AsyncExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop, number)
            loop.add_signal_handler(signal.SIGHUP, held.ask_reload)
            loop.add_signal_handler(signal.SIGCHLD, held.wake)
            # Before the loop closes: it closes its pipe for signals first, and would warn when the last children end.
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                stack.callback(loop.remove_signal_handler, number)
            await held.page.serve()
            stack.push_async_callback(held.page.pause)
            begin()  # the event loop does not turn from here on to the main loop: nothing is read that gets lost
            stack.callback(held.control.close)
            stack.callback(lambda: held.pool.kill(held.pool.workers.values()))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
            await self._watch()
            await self._end()
        return 0

    async def _watch(self) -> None:
        held, pool = self.held, self.held.pool
        interval = watchdog_interval()
        fed = announced = 0.0
        while not self._stopping:
            held.news.clear()
            pool.tick()
            if pool.fatal is not None:
                raise pool.fatal
            if pool.settled and not announced:
                announced = time.monotonic()
                self._notifier.send("READY=1")
            self._say(self._state_in_words())
            if interval is not None and time.monotonic() - fed >= interval:
                fed = time.monotonic()
                self._notifier.send("WATCHDOG=1")
            if not self._reloading:
                await held.page.keep_served()
                if held.again and pool.settled:
                    held.again = False
                    self._reload = asyncio.create_task(perform(held))
            await self._pause()

    async def _end(self) -> None:
        pool = self.held.pool
        self._notifier.send("STOPPING=1")
        if self._reload is not None and self._reloading:
            self._reload.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reload
        pool.drain(list(pool.workers.values()))
        self.held.listeners.discard(list(self.held.listeners))  # before the workers drain
        while pool.workers:
            self.held.news.clear()
            self._say(f"stopping: {len(pool.workers)} workers finish")
            pool.tick(replace=False)
            if pool.workers:
                await self._pause()

    async def _pause(self) -> None:
        """Wait for news, or for one tick."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BLOCKED_TICK if self.held.pool.blocked else _TICK):
                await self.held.news.wait()

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._notifier.send(f"STATUS={text}")

    @property
    def _reloading(self) -> bool:
        return self._reload is not None and not self._reload.done()

    def _state_in_words(self) -> str:
        pool = self.held.pool
        wanted = pool.plan.workers if pool.plan is not None else 0
        parts = [f"generation {pool.generation}, {pool.serving} of {wanted} workers"]
        parts += sorted({one.status for one in pool.active(pool.generation) if one.status})
        if pool.draining:
            parts.append(f"{pool.draining} finishing")
        if self._reloading:
            parts.append("reloading")
        elif self._reload is not None and (refused := self._reload.result()):
            parts.append(f"reload failed: {refused}")
        parts += filter(None, (self.held.remark, pool.trouble))
        return "; ".join(parts)

    # -- metrics ----------------------------------------------------------------------------------------------

    async def render(self) -> bytes:
        """The metrics page, with current values of all workers that answer in time."""
        token = self._token = self._token + 1
        self.held.pool.collect(token)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FRESH):
                while any(one.token < token for one in self.held.pool.workers.values() if one.state != "starting"):
                    await self.held.turn.wait()
        return generate_latest(Page(merge([self.held.pool.figures(), self._own_figures()])))

    def _own_figures(self) -> tuple[Family, ...]:
        pool = self.held.pool
        return own_families(
            self.held.plane.name,
            wanted=self.held.plan.workers,
            serving=pool.serving,
            draining=pool.draining,
            generation=pool.generation,
            replaced=pool.replaced,
            reloads=self.held.reloads,
        )
