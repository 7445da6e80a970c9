"""The resources of a supervisor: sockets, workers and counts, as they are handed over to the next release."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.exposition import generate_latest

from tfgateway.plane import Plane
from tfgateway.workers.control_socket import ControlSocket
from tfgateway.workers.handover import Handover, ListenSocketState, WorkerState
from tfgateway.workers.listen_sockets import ListenSockets
from tfgateway.workers.metrics.merged import FamilyCollector, merge
from tfgateway.workers.metrics.own import own_families
from tfgateway.workers.metrics.page import MetricsPage
from tfgateway.workers.pool_spec import PoolSpec
from tfgateway.workers.worker_pool import WorkerPool

_FRESH = 0.5
"""Seconds that the metrics page waits for current values; then it shows those of a second ago."""


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
    ) -> None:
        """program: the launcher as it was called; ``current`` stays in it."""
        self.plane = plane
        self.program = program
        self.arguments = tuple(sys.argv[1:])
        self.listeners = listeners
        self.runtime = runtime
        self.page = MetricsPage(page, self.render)
        self.control = ControlSocket(control, self.ask_reload)
        self.pool = WorkerPool(listeners, runtime, self.wake)
        self.reloads: Counter[str] = Counter({"done": 0, "failed": 0})
        self.again = False
        """A reload was requested and has not begun."""
        self.remark = ""
        """What the last reload could not do; empty: it did everything."""
        self.wakeup = asyncio.Event()
        """Wakes the main loop."""
        self.turn = asyncio.Event()
        """Set by the next wake-up, once: for tasks beside the main loop."""
        self._collected = 0
        """Number of the last collection of metrics."""

    @property
    def spec(self) -> PoolSpec:
        """The specification of the generation that is kept complete."""
        assert self.pool.spec is not None  # noqa: S101 - adopted before anything runs
        return self.pool.spec

    def ask_reload(self) -> None:
        """Reload now, or after the reload that is under way."""
        self.again = True
        self.wake()

    def wake(self) -> None:
        """Wake the supervisor's loop."""
        self.wakeup.set()
        self.turn.set()
        self.turn = asyncio.Event()

    async def render(self) -> bytes:
        """The metrics page, with current values of all workers that answer in time."""
        pool = self.pool
        number = self._collected = self._collected + 1
        pool.collect(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FRESH):
                while any(one.token < number for one in pool.workers.values() if one.state != "starting"):
                    await self.turn.wait()
        own = own_families(
            self.plane.name,
            wanted=self.spec.workers,
            serving=pool.serving,
            draining=pool.draining,
            generation=pool.generation,
            replaced=pool.replaced,
            reloads=self.reloads,
        )
        return generate_latest(FamilyCollector(merge([pool.figures(), own])))

    def handover(
        self, callers: Iterable[socket.socket] = (), page: socket.socket | None = None, *, back: tuple[str, ...] = ()
    ) -> Handover:
        """All of it, as state for another process image.

        callers: those that wait for the outcome. page: where the metrics page goes on. back: the command of this
        release, for a successor that cannot take over.
        """
        pool = self.pool
        return Handover(
            spec=self.spec,
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
