"""Every system call of a hand-over between workers, and of the link that they make for it, fails once: neither the
session nor its visitors notice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
from pathlib import Path

import structlog
from tfgateway.tunnel.client.model import Phase

from tests.support.failing import Steps, fail
from tests.support.faults import Fault, faults
from tests.support.waiting import soon

from .conftest import LIMIT, World, ask
from .test_handover_refused import descriptors, linked

PLACES = (
    "tunnel.links.link:",
    "tunnel.links.messages:",
    "tunnel.links.worker_links:",
    "tunnel.gateway.migration:",
    "tunnel.gateway.visits:",
)
"""What hands over; the traffic of sessions and visitors goes on beside it."""
START = ("tunnel.links.worker_links:WorkerLinks.__init__", "tunnel.links.worker_links:WorkerLinks._listen>")
"""What fails here is a worker that does not start: another one does."""


async def echoed(sock: socket.socket, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT):
        await loop.sock_sendall(sock, data)
        assert await loop.sock_recv(sock, 100) == data


async def hand_over(runtime: Path, fault: Fault | None = None) -> list[str]:
    """A visitor is led from another worker to the session's, then the session moves there; the steps of both."""
    steps: list[str] = []

    def reached(step: str) -> None:
        steps.append(step)
        if fault is not None and step == fault.step and isinstance(fault.what, int):
            fail(step, fault.what)

    async with contextlib.AsyncExitStack() as stack:
        world = World(runtime, stack)
        stack.callback(sys.setprofile, None)
        sys.setprofile(Steps("link", reached=reached))
        one, two = world.gateway(tunnel_grace=5.0), world.gateway(tunnel_grace=5.0)
        status = world.client(one, await world.service())
        with one.visit(b"") as near:
            await soon(lambda: status.phase is Phase.CONNECTED)
            await linked(one, two)
            await echoed(near, b"near")
            before = descriptors()
            sys.setprofile(Steps("handover", reached=reached))
            with two.visit(b"") as far:
                await echoed(far, b"far")
                async with asyncio.timeout(LIMIT):
                    await one.tunnels.drain()
                sys.setprofile(None)
                await echoed(near, b"near again")
                await echoed(far, b"far again")
            await soon(lambda: descriptors() <= before)
        assert await ask(two.visit(b"after")) == b"after"
        assert (status.sessions, one.metric("tfgateway_tunnels"), two.metric("tfgateway_tunnels")) == (1, 0, 1)
    assert fault is None or fault.step in steps
    places = {step: step.split(" ")[1] for step in steps}
    return [step for step, place in places.items() if place.startswith(PLACES) and not place.startswith(START)]


async def test_no_step_of_a_hand_over_can_lose_anything(tmp_path: Path) -> None:
    numbers = itertools.count()

    def directory() -> Path:
        made = tmp_path / str(next(numbers))
        made.mkdir()
        return made

    with structlog.testing.capture_logs():
        steps = await hand_over(directory())
        chosen = faults(steps, every=True)
        for fault in chosen:
            try:
                await hand_over(directory(), fault)
            except Exception as error:
                raise AssertionError(str(fault)) from error
    print(f"{len(steps)} steps of a hand-over, {len(chosen)} faults tried out")  # noqa: T201
    assert {"socket.connect", "socket._accept", "socket.sendmsg", "socket.recvmsg", "posix.memfd_create"} <= {
        step.split(" ")[2] for step in steps
    }
