"""What a supervisor holds, and hands on to the release that takes its place."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from tfgateway.plane import Plane
from tfgateway.workers.control_socket import Desk
from tfgateway.workers.handover import DoorState, Handover, MemberState
from tfgateway.workers.listen_sockets import Doors
from tfgateway.workers.metrics.page import MetricsPage
from tfgateway.workers.planning import Plan
from tfgateway.workers.worker_pool import Crew


class Resources:
    """One plane's sockets, workers and counts."""

    def __init__(
        self,
        plane: Plane,
        program: str,
        *,
        doors: Doors,
        runtime: Path,
        page: socket.socket,
        desk: socket.socket,
        render: Callable[[], Awaitable[bytes]],
    ) -> None:
        """program: the launcher as it was called; ``current`` stays in it. render: makes the metrics page."""
        self.plane = plane
        self.program = program
        self.arguments = tuple(sys.argv[1:])
        self.doors = doors
        self.runtime = runtime
        self.page = MetricsPage(page, render)
        self.desk = Desk(desk, self.ask_reload)
        self.crew = Crew(doors, runtime, self.wake)
        self.reloads: Counter[str] = Counter({"done": 0, "failed": 0})
        self.again = False
        """A reload was asked for that has not begun."""
        self.remark = ""
        """What is not as it was asked for, since the last reload; empty: nothing."""
        self.news = asyncio.Event()
        """Set by whatever the main loop has to look at."""
        self.turn = asyncio.Event()
        """Set by the next news, once: for whoever waits beside the main loop."""

    @property
    def plan(self) -> Plan:
        """Of the generation that is kept complete."""
        assert self.crew.plan is not None  # noqa: S101 - adopted before anything runs
        return self.crew.plan

    def ask_reload(self) -> None:
        """Reload when the one that is under way, if any, has ended."""
        self.again = True
        self.wake()

    def wake(self) -> None:
        """There is news."""
        self.news.set()
        self.turn.set()
        self.turn = asyncio.Event()

    def handover(
        self, callers: Iterable[socket.socket] = (), page: socket.socket | None = None, *, back: tuple[str, ...] = ()
    ) -> Handover:
        """All of it for another process image. callers: who wait for the outcome; page: where the metrics page goes on;
        back: the command of this release, for a successor that cannot take over."""
        crew = self.crew
        return Handover(
            plan=self.plan,
            generation=crew.generation,
            number=crew.number,
            runtime=str(self.runtime),
            doors=tuple(DoorState(door.socket.fileno(), door.slot, door.endpoint, door.is_open) for door in self.doors),
            members=tuple(
                MemberState(
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
            page_fd=(page or self.page.socket).fileno(),
            desk_fd=self.desk.socket.fileno(),
            answered=tuple(caller.fileno() for caller in callers),
            waiting=tuple(caller.fileno() for caller in self.desk.waiting),
            again=self.again,
            back=back,
        )
