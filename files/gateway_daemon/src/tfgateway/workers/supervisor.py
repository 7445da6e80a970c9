"""The supervisor of a plane: systemd's main process. Small on purpose: it serves nobody and reads no redis.

It holds the listening sockets, keeps the workers complete (``crew``), shows their figures on one page, and changes the
configuration or the release without a gap:

1. ``rehearsal``: the release that ``current`` points to is asked what it would do with the configuration of now.
2. The workers of the next generation start on the same sockets, beside those that serve.
3. When all are ready they are let in, and the last generation drains.
4. The supervisor executes the new release in its own place (same pid), with sockets and workers handed over.

Whatever fails before step 3 leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.exposition import generate_latest

from tfgateway.errors import ConfigError, GatewayError
from tfgateway.plane import Endpoint, Plane
from tfgateway.settings import parse
from tfgateway.telemetry import logs
from tfgateway.telemetry.logs import logger
from tfgateway.workers import handover, planning, rehearsal, worker
from tfgateway.workers.crew import Crew, Member, inherited
from tfgateway.workers.desk import Desk, open_desk, tell
from tfgateway.workers.figures import Family, Page, gauge, merge, total
from tfgateway.workers.notify import Notifier, watchdog_interval
from tfgateway.workers.planning import Plan
from tfgateway.workers.sockets import Door, Doors, bind

if TYPE_CHECKING:
    from aiohttp import web

_TICK = 0.2
"""Seconds between two looks at the workers."""
_BLOCKED_TICK = 0.01
"""The same while another process has an address: nobody answers from when it lets go until we notice."""
_FRESH = 0.5
"""Seconds that the page waits for figures of now; then it shows those of a second ago."""
_HELD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that wait while the process executes the next release."""
_SCRATCH = "tfgateway-"

_log = logger("workers")


def run(plane: Plane, config: Path) -> int:
    """The whole of the command ``tfgateway <plane>``, in all its parts; the exit code. Errors: ``GatewayError``."""
    if worker.called():
        return worker.run(plane)
    program = os.path.abspath(sys.argv[0])  # noqa: PTH100 - links stay: `current` points elsewhere after a switch
    arguments = tuple(sys.argv[1:])
    taken_over = os.environ.get(rehearsal.HANDOVER)
    if taken_over is not None and not rehearsal.called():
        return asyncio.run(_take_over(plane, program, int(taken_over)))
    plan = planning.make(plane, program, arguments, _text(config), str(config))
    if rehearsal.called():
        worker.load(plane)  # a release that lacks something says so here
        return rehearsal.perform(plan)
    return asyncio.run(_begin(plane, program, plan))


def _text(config: Path) -> str:
    try:
        return config.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{config}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{config}: {error}") from error


async def _begin(plane: Plane, program: str, plan: Plan) -> int:
    """A cold start."""
    doors = Doors()
    doors.prepare(plan.endpoints, plan.workers)
    page = _page_socket(plane, plan)
    given = os.environ.get("RUNTIME_DIRECTORY", "")
    runtime = Path(given or tempfile.mkdtemp(prefix=_SCRATCH))
    try:
        supervisor = Supervisor(plane, program, doors, runtime, page, open_desk(runtime))
        supervisor.crew.adopt(plan, 1, settled=False)
        return await supervisor.run(plan)
    finally:
        if not given:
            shutil.rmtree(runtime, ignore_errors=True)


async def _take_over(plane: Plane, program: str, descriptor: int) -> int:
    """In the place of a supervisor that has executed this one."""
    del os.environ[rehearsal.HANDOVER]
    state = handover.read(descriptor)
    os.close(descriptor)
    doors = Doors(Door(one.slot, one.endpoint, _own(one.fd), one.is_open) for one in state.doors)
    runtime = Path(state.runtime)
    supervisor = Supervisor(plane, program, doors, runtime, _own(state.page_fd), _own(state.desk_fd))
    crew = supervisor.crew
    crew.adopt(state.plan, state.generation, settled=True)
    crew.number, crew.retired = state.number, state.retired
    crew.replaced.update(state.replaced)
    supervisor.reloads.update(state.reloads)
    for one in state.members:
        member = Member(one.number, one.slot, one.generation, one.pid, state.plan)
        member.state, member.since, member.deadline = one.state, one.since, one.deadline
        member.status, member.figures, member.token = one.status, one.figures, 0
        crew.attach(member, _own(one.fd), one.unread, one.unsent)
    doors.keep_only(state.plan.endpoints)
    supervisor.desk.waiting += [_own(fd) for fd in state.waiting]
    if state.again:
        supervisor.ask_reload()
    text = f"generation {state.generation}: {state.plan.workers} workers of {_release(state.plan)}"
    tell([_own(fd) for fd in state.answered], "done", text)
    try:
        return await supervisor.run(state.plan)
    finally:
        if runtime != Path(os.environ.get("RUNTIME_DIRECTORY", "")):
            shutil.rmtree(runtime, ignore_errors=True)


class Supervisor:
    """One plane's."""

    def __init__(
        self, plane: Plane, program: str, doors: Doors, runtime: Path, page: socket.socket, desk: socket.socket
    ) -> None:
        self.reloads: Counter[str] = Counter({"done": 0, "failed": 0})
        self.crew = Crew(doors, runtime, self._wake)
        self._news = asyncio.Event()
        self._turn = asyncio.Event()
        """Set by the next news, once: for whoever waits beside the main loop."""
        self._again = False
        self.desk = Desk(desk, self.ask_reload)
        self._plane = plane
        self._program = program
        self._arguments = tuple(sys.argv[1:])
        self._doors = doors
        self._runtime = runtime
        self._page = page
        self._runner: web.AppRunner
        self._notifier = Notifier()
        self._stopping = False
        self._reload: asyncio.Task[None] | None = None
        self._refused = ""
        """Why the last reload failed."""
        self._said = ""
        self._token = 0

    def ask_reload(self) -> None:
        """Reload when the one that is under way, if any, has ended."""
        self._again = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._turn.set()
        self._turn = asyncio.Event()

    def _stop(self, number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name)
        self._stopping = True
        self._wake()

    # -- the life of it ---------------------------------------------------------------------------------------

    async def run(self, plan: Plan) -> int:
        """Until told to stop; the exit code. Errors: ``GatewayError`` when the workers cannot start at all."""
        logs.configure(parse(plan.config.encode(), plan.config_name).log)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self.ask_reload)
        loop.add_signal_handler(signal.SIGCHLD, self._wake)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        async with contextlib.AsyncExitStack() as stack:
            # Before the loop closes: it closes its pipe for signals first, and complains of the last children's end.
            stack.callback(loop.remove_signal_handler, signal.SIGCHLD)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                stack.callback(loop.remove_signal_handler, number)
            stack.callback(self.desk.close)
            stack.callback(lambda: self.crew.kill(self.crew.members.values()))
            # Here, since aiohttp is a third of what a worker takes to start and 8 MB, and workers serve no page.
            from tfgateway.telemetry import metrics

            self._runner = await metrics.serve_page(self._render, self._page)
            stack.push_async_callback(self._runner.cleanup)
            await self._watch()
            await self._end()
        return 0

    async def _watch(self) -> None:
        interval = watchdog_interval()
        fed = announced = 0.0
        while not self._stopping:
            self._news.clear()
            self.crew.tick()
            if self.crew.fatal is not None:
                raise self.crew.fatal
            if self.crew.settled and not announced:
                announced = time.monotonic()
                self._notifier.send("READY=1")
            self._say(self._state_in_words())
            if interval is not None and time.monotonic() - fed >= interval:
                fed = time.monotonic()
                self._notifier.send("WATCHDOG=1")
            if self._again and self.crew.settled and (self._reload is None or self._reload.done()):
                self._again = False
                self._reload = asyncio.create_task(self._try_reload())
            await self._pause()

    async def _end(self) -> None:
        self._notifier.send("STOPPING=1")
        if self._reload is not None and not self._reload.done():
            self._reload.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reload
        self.crew.drain(list(self.crew.members.values()))
        self._doors.discard(list(self._doors))  # nobody is let in, while the workers finish with those who are
        while self.crew.members:
            self._news.clear()
            self._say(f"stopping: {len(self.crew.members)} workers finish")
            self.crew.tick(replace=False)
            if self.crew.members:
                await self._pause()

    async def _pause(self) -> None:
        """Until there is news, or for a tick."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BLOCKED_TICK if self.crew.blocked else _TICK):
                await self._news.wait()

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._notifier.send(f"STATUS={text}")

    def _state_in_words(self) -> str:
        crew = self.crew
        wanted = crew.plan.workers if crew.plan is not None else 0
        parts = [f"generation {crew.generation}, {crew.serving} of {wanted} workers"]
        parts += sorted({one.status for one in crew.active(crew.generation) if one.status})
        if crew.draining:
            parts.append(f"{crew.draining} finishing")
        if self._reload is not None and not self._reload.done():
            parts.append("reloading")
        elif self._refused:
            parts.append(f"reload failed: {self._refused}")
        if crew.trouble:
            parts.append(crew.trouble)
        return "; ".join(parts)

    # -- reload -----------------------------------------------------------------------------------------------

    async def _try_reload(self) -> None:
        callers = self.desk.take()
        _log.info("reloading")
        try:
            await self._change(callers)
        except (GatewayError, OSError) as error:
            self._refused = str(error)
            self.reloads["failed"] += 1
            _log.error("reload failed: everything goes on as before", reason=self._refused)
            tell(callers, "failed", self._refused)
        except BaseException:
            tell(callers, "failed", "interrupted")
            raise

    async def _change(self, callers: list[socket.socket]) -> None:
        """Does not return when all went well: another program goes on."""
        plan = await rehearsal.rehearse(self._program, self._arguments, self._handover([], self._page), self._runtime)
        generation = self.crew.generation + 1
        page = self._page if plan.metrics == self._current.metrics else _page_socket(self._plane, plan)
        made = self._doors.prepare(plan.endpoints, plan.workers)
        try:
            self.crew.start(plan, generation)
            await self._until_ready(plan, generation)
            self.crew.let_in(self.crew.active(generation))
        except BaseException:
            self.crew.kill(one for one in self.crew.members.values() if one.generation == generation)
            self._doors.discard(made)
            if page is not self._page:
                page.close()
            raise
        last = [one for one in self.crew.members.values() if one.generation != generation]
        self.crew.adopt(plan, generation, settled=True)
        self.crew.drain(last)
        self._refused = ""
        self.reloads["done"] += 1
        _log.info("next generation serves", generation=generation, workers=plan.workers, release=_release(plan))
        await self._runner.cleanup()  # pages that are being made are finished; who comes now asks the successor
        self._execute(callers, page)

    @property
    def _current(self) -> Plan:
        assert self.crew.plan is not None  # noqa: S101 - adopted before anything runs
        return self.crew.plan

    async def _until_ready(self, plan: Plan, generation: int) -> None:
        """Until all its workers are. Errors: ``GatewayError`` when one will not be."""
        members = self.crew.active(generation)
        while not all(one.state == "ready" and not one.ended for one in members):
            for one in members:
                if one.failure is not None:
                    raise (ConfigError if one.failure.code == 2 else GatewayError)(one.failure.text)
                if one.state == "killed":
                    raise GatewayError(f"a worker of {_release(plan)} was not ready in {plan.start_limit:.0f} s")
                if one.ended:
                    raise GatewayError(f"a worker of {_release(plan)} ended before it was ready ({one.ended})")
            await self._turn.wait()

    def _execute(self, callers: list[socket.socket], page: socket.socket) -> None:
        """Become the supervisor of the release that has just been rehearsed. Errors: ``OSError``."""
        state = self._handover(callers, page)
        passed = [page, self.desk.socket, *callers, *self.desk.waiting]
        passed += [door.socket for door in self._doors]
        passed += [one.channel.socket for one in self.crew.members.values()]
        with (
            handover.write(state, self._runtime) as file,
            inherited([file.fileno(), *(sock.fileno() for sock in passed if sock.fileno() >= 0)]),
        ):
            environ = {**os.environ, rehearsal.HANDOVER: str(file.fileno())}
            signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
            try:
                os.execve(self._program, [self._program, *self._arguments], environ)  # noqa: S606
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)

    def _handover(self, callers: list[socket.socket], page: socket.socket) -> handover.Handover:
        crew = self.crew
        return handover.Handover(
            plan=self._current,
            generation=crew.generation,
            number=crew.number,
            runtime=str(self._runtime),
            doors=tuple(
                handover.DoorState(door.socket.fileno(), door.slot, door.endpoint, door.is_open) for door in self._doors
            ),
            members=tuple(
                handover.MemberState(
                    fd=one.channel.socket.fileno(),
                    number=one.number,
                    slot=one.slot,
                    generation=one.generation,
                    pid=one.pid,
                    state=one.state,
                    since=one.since,
                    deadline=one.deadline,
                    status=one.status,
                    figures=one.figures,
                    unread=one.channel.unread,
                    unsent=one.channel.unsent,
                )
                for one in crew.members.values()
            ),
            retired=crew.retired,
            replaced=dict(crew.replaced),
            reloads=dict(self.reloads),
            page_fd=page.fileno(),
            desk_fd=self.desk.socket.fileno(),
            answered=tuple(caller.fileno() for caller in callers),
            waiting=tuple(caller.fileno() for caller in self.desk.waiting),
            again=self._again,
        )

    # -- figures ----------------------------------------------------------------------------------------------

    async def _render(self) -> bytes:
        """The page: of now, as far as the workers answer at once."""
        token = self._token = self._token + 1
        self.crew.collect(token)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FRESH):
                while any(one.token < token for one in self.crew.members.values() if one.state != "starting"):
                    await self._turn.wait()
        return generate_latest(Page(merge([self.crew.figures(), self._own_figures()])))

    def _own_figures(self) -> list[Family]:
        crew, plane = self.crew, self._plane.name
        return [
            gauge("tfgateway_workers", "Workers that there should be", plane, self._current.workers),
            gauge("tfgateway_workers_serving", "Workers that serve", plane, crew.serving),
            gauge("tfgateway_workers_draining", "Workers of earlier generations that finish", plane, crew.draining),
            gauge("tfgateway_generation", "Reloads since the start, the start included", plane, crew.generation),
            total("tfgateway_worker_restarts", "Workers that had to be replaced", plane, crew.replaced, "reason"),
            total("tfgateway_reloads", "Reloads and switches of the release", plane, self.reloads, "outcome"),
        ]


def _own(descriptor: int) -> socket.socket:
    """An inherited socket, not to be inherited further; -1: one whose other end is gone."""
    if descriptor < 0:
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    return sock


def _page_socket(plane: Plane, plan: Plan) -> socket.socket:
    """For the page. Errors: ``GatewayError``."""
    endpoint = Endpoint("metrics", "tcp", plan.metrics)
    try:
        return bind(endpoint, shared=False)
    except OSError as error:
        raise GatewayError(f"{plane.name}.metrics: cannot listen on {plan.metrics}: {error.strerror}") from error


def _release(plan: Plan) -> str:
    """The directory of a release, as operators know it: ``0.1.0+1f3a...``."""
    return Path(plan.program).parent.parent.name
