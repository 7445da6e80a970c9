from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tfgateway.workers.notify import Notifier, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET as systemd sets it, and the socket behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link, tempfile.TemporaryDirectory() as directory:
        link.setblocking(False)
        if request.param == "path":
            address = str(Path(directory) / "notify")
            link.bind(address)
        else:
            address = f"@tfgateway-{uuid.uuid4()}"
            link.bind("\0" + address[1:])
        yield address, link


def test_an_assignment_is_one_datagram(manager: tuple[str, socket.socket]) -> None:
    address, link = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.send("READY=1")
    notifier.send("STATUS=in sync, 3 zones – ready")
    assert link.recv(4096) == b"READY=1"
    assert link.recv(4096).decode() == "STATUS=in sync, 3 zones – ready"


def test_a_status_can_not_smuggle_in_another_assignment(manager: tuple[str, socket.socket]) -> None:
    address, link = manager
    Notifier({"NOTIFY_SOCKET": address}).send("STATUS=zone a\nSTOPPING=1\0")
    assert link.recv(4096) == b"STATUS=zone a STOPPING=1 "


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_listening_is_no_error(environ: dict[str, str]) -> None:
    Notifier(environ).send("READY=1")


def test_a_manager_that_does_not_read_does_not_block(manager: tuple[str, socket.socket]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[0]})
    for number in range(10_000):
        notifier.send(f"STATUS={number}")
    assert manager[1].recv(4096) == b"STATUS=0"


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_is_fed_at_half_its_time(environ: dict[str, str], interval: float | None) -> None:
    assert watchdog_interval(environ) == interval
