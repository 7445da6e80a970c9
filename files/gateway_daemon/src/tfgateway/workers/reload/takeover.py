"""Takes over from the supervisor that has executed this one; hands back when that fails.

Until it runs, this supervisor closes none of the descriptors that were left to it, reads from none and changes none.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from tfgateway.plane import Plane
from tfgateway.telemetry.logs import logger
from tfgateway.workers import handover
from tfgateway.workers.control_socket import report
from tfgateway.workers.ipc.worker_handle import WorkerHandle
from tfgateway.workers.listen_sockets import ListenSocket, ListenSockets
from tfgateway.workers.reload import config_test
from tfgateway.workers.reload.perform import execute
from tfgateway.workers.resources import Resources

_HANDED_BACK = "TFGATEWAY_HANDED_BACK"
"""Environment variable: why the successor of this release could not take over."""

_log = logger("workers")


class TakeOver:
    """A take-over, from the inherited state to the running supervisor."""

    def __init__(self, plane: Plane, program: str) -> None:
        """Errors: ``GatewayError`` for a state that cannot be read."""
        self._file = int(os.environ.pop(config_test.HANDOVER))
        self._why = os.environ.pop(_HANDED_BACK, "")
        self._plane = plane
        self._program = program
        self._state = handover.read(self._file)
        self._sockets: list[socket.socket] = []
        self._done = False

    @property
    def state(self) -> handover.Handover:
        """The inherited state."""
        return self._state

    def resources(self) -> Resources:
        """All resources but the workers and callers: nothing is read from those yet. Errors: ``OSError``."""
        state = self._state
        return Resources(
            self._plane,
            self._program,
            listeners=ListenSockets(
                ListenSocket(one.slot, one.endpoint, self._own(one.fd), one.is_open) for one in state.listeners
            ),
            runtime=Path(state.runtime),
            page=self._own(state.page_fd),
            control=self._own(state.control_fd),
        )

    def complete(self, resources: Resources) -> None:
        """Finish once all else is done and the metrics page is served. Errors: ``OSError``."""
        try:
            answered = self._attach(resources)
        except OSError:
            # The event loop runs once more before the hand-back: what it read or closed would be missing there.
            loop = asyncio.get_running_loop()
            for sock in self._sockets:
                loop.remove_reader(sock)
                loop.remove_writer(sock)
            raise
        self._done = True
        for sock in self._sockets:
            sock.set_inheritable(False)
        os.close(self._file)
        resources.listeners.keep_only(self._state.spec.endpoints)
        if self._why:
            resources.remark = f"the supervisor is that of the release before again: {self._why}"
            _log.error("supervisor not replaced: the next generation serves with this one", reason=self._why)
        report(answered, "done", "; ".join(filter(None, (resources.pool.summary, resources.remark))))

    def _attach(self, resources: Resources) -> list[socket.socket]:
        """Give workers and callers to ``resources``, which reads from them from now on; the callers to answer."""
        state, pool = self._state, resources.pool
        pool.adopt(state.spec, state.generation, was_complete=True)
        pool.number, pool.retired = state.number, state.retired
        pool.replaced.update(state.replaced)
        resources.reloads.update(state.reloads)
        resources.again = state.again
        for one in state.workers:
            worker = WorkerHandle(one.number, one.slot, one.generation, one.pid, state.spec)
            worker.state, worker.since, worker.deadline = one.state, one.since, one.deadline
            worker.status, worker.figures, worker.token = one.status, one.figures, 0
            worker.covers = one.covers
            pool.attach(worker, self._own(one.fd), one.unread, one.unsent)
        resources.control.waiting += [self._own(fd) for fd in state.waiting]
        answered = [self._own(fd) for fd in state.answered]
        resources.control.start()
        return answered

    def hand_back(self, error: Exception) -> None:
        """Execute the previous release, if this one does not run yet and that one can. Errors: ``OSError``."""
        back = self._state.back
        if self._done or self._why or not back:
            return
        for sock in self._sockets:
            sock.detach()
        why = f"{self._state.spec.release} cannot take over: {error}"
        _log.error("not taken over: handed back", reason=why)
        execute(back, {**os.environ, config_test.HANDOVER: str(self._file), _HANDED_BACK: why})

    def _own(self, descriptor: int) -> socket.socket:
        """The socket of an inherited descriptor; for -1, one whose peer is closed."""
        if descriptor < 0:
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours
        self._sockets.append(socket.socket(fileno=descriptor))
        return self._sockets[-1]
