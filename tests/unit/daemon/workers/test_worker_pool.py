"""A pool of workers with real sockets; the workers themselves only live, and say what the test has them say."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tfgateway.plane import Endpoint
from tfgateway.workers.ipc.protocol import Cover, Frames, Ready, decode_to_worker
from tfgateway.workers.ipc.worker_handle import WorkerHandle
from tfgateway.workers.listen_sockets import ListenSockets
from tfgateway.workers.pool_spec import PoolSpec
from tfgateway.workers.worker_pool import WorkerPool

from tests.support.ports import free_port

LIMIT = 60.0
SPEC = PoolSpec("/release/bin/tfgateway", (), "", "", (), 1, 5.0, 60.0, 60.0, "127.0.0.1:1")


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    yield started
    for process in started:
        process.kill()
        process.wait()


async def test_all_that_waited_for_an_address_are_let_in_when_it_is_free(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """Also when it became free between the first worker's attempt and the second's."""
    endpoints = (Endpoint("dns", "udp", f"127.0.0.1:{free_port()}"),)
    spec = PoolSpec("/release/bin/tfgateway", (), "", "", endpoints, 2, 5.0, 60.0, 60.0, "127.0.0.1:1")
    listeners = ListenSockets()
    listeners.prepare(endpoints, 2)
    pool = WorkerPool(listeners, tmp_path, lambda: None)
    pool.adopt(spec, 1, was_complete=False)
    others = []
    for slot, process in enumerate(processes):
        ours, theirs = socket.socketpair()
        others.append(theirs)
        pool.attach(WorkerHandle(slot + 1, slot, 1, process.pid, spec), ours)
    first, second = pool.workers.values()

    host, _, port = endpoints[0].address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
        old.bind((host, int(port)))
        pool._received(first, Ready())
        assert first.state == "ready"
        assert "in use" in pool.trouble
    pool._received(second, Ready())
    assert (first.state, second.state) == ("ready", "serving")
    pool.tick()
    assert (first.state, second.state) == ("serving", "serving")
    assert pool.was_complete
    assert pool.trouble == ""
    for worker, other in zip(pool.workers.values(), others, strict=True):
        worker.channel.close()
        other.close()
    listeners.discard(list(listeners))


async def test_a_worker_that_was_stopped_takes_the_signal_that_ends_a_hanging_one(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """At once: it would hold its slot until it is killed, several seconds later."""
    victim = processes[0]
    os.kill(victim.pid, signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, victim.pid, os.WSTOPPED)
    pool = WorkerPool(ListenSockets(), tmp_path, lambda: None)
    pool.adopt(SPEC, 1, was_complete=True)
    ours, theirs = socket.socketpair()
    worker = WorkerHandle(1, 0, 1, victim.pid, SPEC)
    pool.attach(worker, ours)
    worker.state, worker.token = "serving", 0
    worker.last_message = time.monotonic() - SPEC.hang_limit - 1.0
    pool.tick(replace=False)
    assert worker.state == "killed"
    assert await asyncio.to_thread(victim.wait, LIMIT) == -signal.SIGABRT
    worker.channel.close()
    theirs.close()


async def test_the_sockets_of_a_silent_worker_are_read_by_the_others_until_it_is_back(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    endpoints = (Endpoint("dns", "udp", f"127.0.0.1:{free_port()}"),)
    spec = msgspec.structs.replace(SPEC, endpoints=endpoints, workers=3)
    listeners = ListenSockets()
    listeners.prepare(endpoints, 3)
    pool = WorkerPool(listeners, tmp_path, lambda: None)
    pool.adopt(spec, 1, was_complete=False)
    others = []
    for slot, process in enumerate(processes):
        ours, theirs = socket.socketpair()
        others.append(theirs)
        pool.attach(WorkerHandle(slot + 1, slot, 1, process.pid, spec), ours)
    first, second = pool.workers.values()
    pool._not_before[2] = time.monotonic() + 600.0  # no worker there
    pool.start_serving([first, second])
    first.covers = second.covers = True

    def covered(*, silent: WorkerHandle | None = None) -> list[tuple[int, ...] | None]:
        for worker in (first, second):
            worker.last_message = time.monotonic() - (5.0 if worker is silent else 0.0)
        pool.tick()
        return [first.covering, second.covering]

    assert covered() == [(), ()]  # the sockets of the third are not open yet
    listeners.open(list(listeners))
    assert covered() == [(2,), (2,)]
    assert covered(silent=second) == [(1, 2), (2,)]
    assert covered() == [(2,), (2,)]
    received = Frames()
    slots = [
        message.slots
        for body in received.feed(others[0].recv(65536))
        if isinstance(message := decode_to_worker(body), Cover)
    ]
    assert slots == [(), (2,), (1, 2), (2,)]
    first.covers = False  # of an older release, which would not understand
    assert covered(silent=second) == [(2,), (2,)]
    for worker, other in zip(pool.workers.values(), others, strict=True):
        worker.channel.close()
        other.close()
    listeners.discard(list(listeners))
