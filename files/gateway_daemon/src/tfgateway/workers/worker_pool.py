"""The worker processes of a plane: started, watched, replaced, drained."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from tfgateway.errors import AddressInUseError, ConfigError, GatewayError
from tfgateway.telemetry.logs import logger
from tfgateway.workers.ipc.channel import Channel
from tfgateway.workers.ipc.protocol import (
    Assignment,
    Collect,
    Cover,
    Drain,
    Failed,
    Figures,
    FromWorker,
    Go,
    InheritedSocket,
    Peers,
    Ready,
    SlotSockets,
    Status,
)
from tfgateway.workers.ipc.worker_handle import WorkerHandle
from tfgateway.workers.listen_sockets import ListenSockets
from tfgateway.workers.metrics.merged import Family, lasting, merge
from tfgateway.workers.pool_spec import PoolSpec
from tfgateway.workers.processes import SUPERVISORS_OWN, reap, spawn
from tfgateway.workers.worker import CONTROL

_STABLE = 30.0
"""Seconds of life after which a worker's end begins a new count, instead of being part of a crash loop."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_CRASH_LOOP = 3
"""Unexpected ends in a row that make a crash loop."""
_FIRST_MESSAGE_TIMEOUT = 60.0
"""Seconds that a new worker may take to send its first message: an interpreter starts on a busy machine."""
_SUPERVISOR_STALL = 1.0
"""When two ticks are further apart, the supervisor itself was stopped, and the timers of workers are extended."""
_COVER_AFTER = 1.5
"""Seconds without a message, which comes each second, after which other workers also read a worker's sockets.
Harmless when it was only slow."""
_ABORT_TO_KILL = 5.0
"""Seconds between SIGABRT, at which a worker logs where it hangs, and SIGKILL."""

_log = logger("workers")


class WorkerPool:
    """Keeps one generation of workers complete; others may be starting or draining beside it."""

    def __init__(self, listeners: ListenSockets, runtime: Path, changed: Callable[[], None]) -> None:
        """changed: called after whatever others may wait for."""
        self.listeners = listeners
        self.workers: dict[int, WorkerHandle] = {}
        self.spec: PoolSpec | None = None
        self.generation = 0
        """The generation that is kept complete; 0: none yet."""
        self.was_complete = False
        """The generation has been complete once."""
        self.fatal: GatewayError | None = None
        """Why the generation cannot start; set only before it was complete."""
        self.blocked = ""
        """Error text about an address that another process has, while it is waited for."""
        self._blocked_since = 0.0
        self.retired: tuple[Family, ...] = ()
        """Counters of workers that have ended."""
        self.replaced: Counter[str] = Counter()
        """Unexpected ends, by reason."""
        self.number = 0
        """Number of the newest worker."""
        self._runtime = runtime
        self._changed = changed
        self._failures: Counter[int] = Counter()
        """Unexpected ends in a row, by slot."""
        self._not_before: dict[int, float] = {}
        """Slot -> monotonic time before which it is not filled again."""
        self._looked = time.monotonic()
        """When the workers were looked at last."""

    # -- status ------------------------------------------------------------------------------------------------

    def active(self, generation: int) -> list[WorkerHandle]:
        """Workers of a generation that are starting, ready or serving."""
        return [one for one in self.workers.values() if one.generation == generation and one.active]

    @property
    def serving(self) -> int:
        """The number of workers of the kept generation that serve."""
        return sum(one.state == "serving" for one in self.active(self.generation))

    @property
    def draining(self) -> int:
        """The number of workers that drain."""
        return sum(not one.active for one in self.workers.values())

    @property
    def trouble(self) -> str:
        """What an operator should know; empty: nothing."""
        looping = sorted(slot for slot, count in self._failures.items() if count >= _CRASH_LOOP)
        if not looping:
            return f"waiting: {self.blocked}" if self.blocked else ""
        return f"the worker of slot {', '.join(map(str, looping))} ends again and again: see the log"

    @property
    def summary(self) -> str:
        """The kept generation in words."""
        assert self.spec is not None  # noqa: S101 - adopted before anything runs
        return f"generation {self.generation}: {self.spec.workers} workers of {self.spec.release}"

    def figures(self) -> tuple[Family, ...]:
        """Metrics of all workers, ended ones included; of those that do not serve yet only when none serves."""
        serving = [one for one in self.workers.values() if one.state not in ("starting", "ready")]
        return merge([self.retired, *(one.figures for one in serving or self.workers.values())])

    # -- generations ------------------------------------------------------------------------------------------

    def adopt(self, spec: PoolSpec, generation: int, *, was_complete: bool) -> None:
        """Keep this generation complete from now on, by replacing workers that end."""
        self.spec, self.generation, self.was_complete = spec, generation, was_complete
        self._failures.clear()
        self._not_before.clear()

    def start(self, spec: PoolSpec, generation: int) -> None:
        """Start a generation that is not kept: workers that end are not replaced. Errors: ``OSError``."""
        for slot in range(spec.workers):
            self._spawn(spec, generation, slot)

    def start_serving(self, workers: Collection[WorkerHandle]) -> None:
        """Open the listening sockets of ready workers, all or none. Errors: ``GatewayError``: an address is in use."""
        for worker in workers:
            self.listeners.open(self.listeners.of(worker.slot, worker.spec.workers, worker.spec.endpoints))
        for worker in workers:
            worker.state = "serving"
            worker.channel.send(Go())
        self.was_complete = self.was_complete or (self.spec is not None and self.serving == self.spec.workers)

    def drain(self, workers: Iterable[WorkerHandle]) -> None:
        """Let workers finish, within the drain limit of their specification."""
        for worker in workers:
            if worker.active:
                worker.state = "draining"
                worker.deadline = time.monotonic() + worker.spec.drain_limit
                worker.channel.send(Drain())

    def dismiss(self, workers: Iterable[WorkerHandle]) -> None:
        """Undo ``start``. A ready worker ends in order: another may have handed sessions over to it already."""
        for worker in workers:
            is_ready = worker.state != "starting"
            self.drain([worker])
            if not is_ready:
                self._signal(worker, signal.SIGKILL)

    def kill(self, workers: Iterable[WorkerHandle]) -> None:
        """Kill workers at once."""
        for worker in workers:
            self._signal(worker, signal.SIGKILL)

    def collect(self, token: int) -> None:
        """Request current metrics; ``WorkerHandle.token`` reaches ``token`` for workers that have answered."""
        for worker in self.workers.values():
            worker.channel.send(Collect(token))

    # -- supervision ------------------------------------------------------------------------------------------

    def tick(self, *, replace: bool = True) -> None:
        """Reap, check and replace workers: to be called a few times a second and after SIGCHLD. replace: fill slots."""
        self._discount_stall()
        for worker in list(self.workers.values()):
            reaped = reap(worker.pid)
            if reaped is not None:
                self._ended(worker, reaped)
            else:
                self._check(worker)
        if replace and self.spec is not None:
            self._fill(self.spec)
            for worker in self.active(self.generation):
                if worker.state == "ready":  # its address was another's when it was ready
                    self._start_serving_alone(worker)
            self._cover(self.spec)

    def _cover(self, spec: PoolSpec) -> None:
        """Have the workers that serve read the sockets of those that are silent or gone."""
        now = time.monotonic()
        serving = [one for one in self.active(self.generation) if one.state == "serving"]
        awake = [one for one in serving if now - one.last_message <= _COVER_AFTER]
        left = tuple(
            slot
            for slot in sorted(set(range(spec.workers)) - {one.slot for one in awake})
            if all(one.is_open for one in self.listeners.of(slot, spec.workers, spec.endpoints))
        )
        for worker in awake:
            if worker.covers and worker.covering != left:
                worker.covering = left
                worker.channel.send(Cover(left))

    def _discount_stall(self) -> None:
        """Give workers the time back in which this process did not run: it read no sign of life then."""
        now = time.monotonic()
        stalled, self._looked = now - self._looked, now
        if stalled > _SUPERVISOR_STALL:
            _log.warning("supervisor did not run", seconds=round(stalled, 1))
            for worker in self.workers.values():
                worker.since += stalled
                worker.last_message = min(worker.last_message + stalled, now)
                if worker.deadline is not None:
                    worker.deadline += stalled

    def _check(self, worker: WorkerHandle) -> None:
        now = time.monotonic()
        if worker.deadline is not None:
            if now > worker.deadline:
                if worker.state == "draining":
                    _log.warning("worker killed: it did not finish in time", worker=worker.name, slot=worker.slot)
                self._signal(worker, signal.SIGKILL)
        elif worker.generation != self.generation and now - worker.since > worker.spec.start_limit:
            _log.error("worker killed: not ready in time", worker=worker.name, slot=worker.slot, status=worker.status)
            self._give_up(worker)
        elif now - worker.last_message > (worker.spec.hang_limit if worker.token >= 0 else _FIRST_MESSAGE_TIMEOUT):
            _log.error("worker killed: it hangs", worker=worker.name, slot=worker.slot)
            self._give_up(worker)

    def _give_up(self, worker: WorkerHandle) -> None:
        worker.state = "killed"
        worker.deadline = time.monotonic() + _ABORT_TO_KILL
        self._signal(worker, signal.SIGABRT)
        self._signal(worker, signal.SIGCONT)  # a process that was stopped takes no other signal before

    def _fill(self, spec: PoolSpec) -> None:
        own = [one for one in self.workers.values() if one.generation == self.generation]
        taken = {one.slot for one in own if one.state != "draining"}
        for slot in range(spec.workers):
            if slot not in taken and time.monotonic() >= self._not_before.get(slot, 0.0):
                try:
                    self._spawn(spec, self.generation, slot)
                except OSError as error:
                    _log.error("worker not started", slot=slot, program=spec.program, reason=error.strerror)
                    self._failed(slot, "start")

    def _ended(self, worker: WorkerHandle, how: str) -> None:
        worker.channel.receive()  # its last messages
        worker.channel.close()
        worker.ended = how
        del self.workers[worker.number]
        self.retired = merge([self.retired, lasting(worker.figures)])
        for left in self._runtime.glob(f"{worker.name}.*"):
            left.unlink(missing_ok=True)
        if worker.state == "draining" or worker.generation != self.generation:
            _log.info("worker ended", worker=worker.name, slot=worker.slot, generation=worker.generation, how=how)
        elif worker.failure is not None and not self.was_complete:
            self.fatal = (ConfigError if worker.failure.code == 2 else GatewayError)(worker.failure.text)
        else:
            reason = worker.failure.text if worker.failure else worker.status
            _log.error("worker ended unasked", worker=worker.name, slot=worker.slot, how=how, reason=reason)
            if time.monotonic() - worker.since > _STABLE:
                self._failures[worker.slot] = 0
            self._failed(worker.slot, "hang" if worker.state == "killed" else "end")
        self._send_peers()
        self._changed()

    def _failed(self, slot: int, reason: str) -> None:
        self.replaced[reason] += 1
        self._failures[slot] += 1
        doublings = min(self._failures[slot] - 1, 20)
        pause = 0.0 if doublings == 0 else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**doublings)
        self._not_before[slot] = time.monotonic() + pause

    # -- one worker -------------------------------------------------------------------------------------------

    def _spawn(self, spec: PoolSpec, generation: int, slot: int) -> None:
        self.number += 1
        ours, theirs = socket.socketpair()
        slots = {
            number: tuple(
                InheritedSocket(one.socket.fileno(), one.endpoint)
                for one in self.listeners.of(number, spec.workers, spec.endpoints)
            )
            for number in range(spec.workers)
        }
        environ = {key: value for key, value in os.environ.items() if key not in SUPERVISORS_OWN}
        environ[CONTROL] = str(theirs.fileno())
        with theirs:
            passed = [theirs.fileno(), *(one.fd for sockets in slots.values() for one in sockets)]
            try:
                pid = spawn((spec.program, *spec.arguments), environ, passed=passed)
            except OSError:
                ours.close()
                raise
        worker = WorkerHandle(self.number, slot, generation, pid, spec)
        self.attach(worker, ours)
        assignment = Assignment(
            name=worker.name,
            slot=slot,
            generation=generation,
            workers=spec.workers,
            runtime=str(self._runtime),
            config=spec.config,
            config_name=spec.config_name,
            sockets=slots.pop(slot),
            others=tuple(SlotSockets(number, sockets) for number, sockets in slots.items()),
        )
        worker.channel.send(assignment)
        self._send_peers()

    def attach(self, worker: WorkerHandle, sock: socket.socket, unread: bytes = b"", unsent: bytes = b"") -> None:
        """Add a worker with this end of its channel."""

        def received(message: FromWorker) -> None:
            self._received(worker, message)

        worker.channel = Channel(sock, received, unread=unread, unsent=unsent)
        self.workers[worker.number] = worker

    def _received(self, worker: WorkerHandle, message: FromWorker) -> None:
        worker.last_message = time.monotonic()
        match message:
            case Figures(families, token):
                worker.figures, worker.token = families, token
            case Status(text):
                worker.status = text
            case Failed():
                worker.failure = message
            case Ready(covers):
                worker.covers = covers
                if worker.state == "starting":
                    worker.state = "ready"
                    if worker.generation == self.generation:
                        self._start_serving_alone(worker)
        self._changed()

    def _start_serving_alone(self, worker: WorkerHandle) -> None:
        try:
            self.start_serving([worker])
            self.blocked = ""
        except GatewayError as error:
            if isinstance(error, AddressInUseError) and not self.was_complete and self._may_wait(worker, str(error)):
                return
            _log.error("worker not let in", worker=worker.name, slot=worker.slot, reason=str(error))
            if not self.was_complete:
                self.fatal = error
            self._give_up(worker)

    def _may_wait(self, worker: WorkerHandle, why: str) -> bool:
        """Whether to go on waiting for an address that another process has."""
        if not self.blocked:
            self._blocked_since = time.monotonic()
            _log.warning("waiting", reason=why)
        self.blocked = why
        return time.monotonic() - self._blocked_since < worker.spec.address_limit

    def _send_peers(self) -> None:
        names = tuple(one.name for one in self.workers.values())
        for worker in self.workers.values():
            worker.channel.send(Peers(names))

    def _signal(self, worker: WorkerHandle, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, number)
