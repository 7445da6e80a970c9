"""The resources of a supervisor: sockets, workers and counts, as they are handed over to the next release."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from tfgateway.plane import Plane
from tfgateway.workers.control_socket import ControlSocket
from tfgateway.workers.handover import Handover, ListenSocketState, WorkerState
from tfgateway.workers.listen_sockets import ListenSockets
from tfgateway.workers.metrics.page import MetricsPage
from tfgateway.workers.planning import Plan
from tfgateway.workers.worker_pool import WorkerPool


class Resources:
    """The resources of one plane."""

    def __init__(
        self,
        plane: Plane,
        program: str,
        *,
        listeners: ListenSockets,
        runtime: Path,
        page: socket.socket,
        control: socket.socket,
        render: Callable[[], Awaitable[bytes]],
    ) -> None:
        """program: the launcher as it was called; ``current`` stays in it. render: makes the metrics page."""
        self.plane = plane
        self.program = program
        self.arguments = tuple(sys.argv[1:])
        self.listeners = listeners
        self.runtime = runtime
        self.page = MetricsPage(page, render)
        self.control = ControlSocket(control, self.ask_reload)
        self.pool = WorkerPool(listeners, runtime, self.wake)
        self.reloads: Counter[str] = Counter({"done": 0, "failed": 0})
        self.again = False
        """A reload was requested and has not begun."""
        self.remark = ""
        """What the last reload could not do; empty: it did everything."""
        self.news = asyncio.Event()
        """Wakes the main loop."""
        self.turn = asyncio.Event()
        """Set by the next news, once: for tasks beside the main loop."""

    @property
    def plan(self) -> Plan:
        """The plan of the generation that is kept complete."""
        assert self.pool.plan is not None  # noqa: S101 - adopted before anything runs
        return self.pool.plan

    def ask_reload(self) -> None:
        """Reload now, or after the reload that is under way."""
        self.again = True
        self.wake()

    def wake(self) -> None:
        """Wake the supervisor's loop."""
        self.news.set()
        self.turn.set()
        self.turn = asyncio.Event()

    def handover(
        self, callers: Iterable[socket.socket] = (), page: socket.socket | None = None, *, back: tuple[str, ...] = ()
    ) -> Handover:
        """All of it, as state for another process image.

        callers: those that wait for the outcome. page: where the metrics page goes on. back: the command of this
        release, for a successor that cannot take over.
        """
        pool = self.pool
        return Handover(
            plan=self.plan,
            generation=pool.generation,
            number=pool.number,
            runtime=str(self.runtime),
            listeners=tuple(
                ListenSocketState(listener.socket.fileno(), listener.slot, listener.endpoint, listener.is_open)
                for listener in self.listeners
            ),
            workers=tuple(
                WorkerState(
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
                    covers=one.covers,
                )
                for one in pool.workers.values()
            ),
            retired=pool.retired,
            replaced=dict(pool.replaced),
            reloads=dict(self.reloads),
            page_fd=(page or self.page.socket).fileno(),
            control_fd=self.control.socket.fileno(),
            answered=tuple(caller.fileno() for caller in callers),
            waiting=tuple(caller.fileno() for caller in self.control.waiting),
            again=self.again,
            back=back,
        )
