"""A supervisor that cannot go on where another one was hands everything back as it was left."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from tfgateway.plane import Plane
from tfgateway.workers import handover
from tfgateway.workers.handover import Handover, WorkerState
from tfgateway.workers.pool_spec import PoolSpec
from tfgateway.workers.processes import open_file
from tfgateway.workers.reload.config_test import HANDOVER
from tfgateway.workers.reload.takeover import TakeOver

PLANE = Plane("dns", "no_such:serve", lambda _: (), lambda _: 1, lambda _: 1.0, lambda _: "127.0.0.1:0")
SPEC = PoolSpec("/releases/two/bin/tfgateway", (), "", "", (), 1, 1.0, 1.0, 1.0, "127.0.0.1:0")


async def test_nothing_is_read_and_nothing_closed_before_all_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker speaks, and another one ends, between the step that fails and the end of the event loop."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        speaks, speaking = map(stack.enter_context, socket.socketpair())
        ends, ended = socket.socketpair()
        stack.enter_context(ends)
        speaking.send(b"figures")
        ended.close()
        workers = tuple(
            WorkerState(sock.fileno(), number, 0, 1, 0, "draining", 0.0, None, "", (), b"", b"")
            for number, sock in enumerate((speaks, ends))
        )
        state = Handover(
            SPEC,
            1,
            2,
            str(tmp_path),
            (),
            workers,
            (),
            {},
            {},
            listening[0].fileno(),
            listening[1].fileno(),
            (),
            (),
            False,
        )
        file = stack.enter_context(open_file())
        handover.write(file, state)
        monkeypatch.setenv(HANDOVER, str(file.fileno()))
        taken = TakeOver(PLANE, "/current/bin/tfgateway")
        resources = taken.resources()

        def refused() -> None:
            raise OSError(errno.ENOMEM, "no memory")

        monkeypatch.setattr(resources.control, "start", refused)
        with pytest.raises(OSError, match="no memory"):
            taken.complete(resources)
        for _ in range(3):
            await asyncio.sleep(0)
        for sock in taken._sockets:
            sock.detach()
        for descriptor in state.descriptors:
            os.fstat(descriptor)  # it is open
        assert speaks.recv(100, socket.MSG_PEEK) == b"figures"
        assert ends.recv(100, socket.MSG_PEEK) == b""
