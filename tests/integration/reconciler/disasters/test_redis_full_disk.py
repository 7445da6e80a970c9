"""Redis on a full disk: nothing is lost, what was known is served, and all goes on when there is room again."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest
from tfgateway.explorer.models import Subdomain
from tfgateway.redis_schema.keys import OUTBOX

from tests.integration.reconciler.conftest import Fleet
from tests.support.waiting import until

SIZE = 8 << 20
PERSISTENCE = {
    "append-only file": (),
    "snapshots": ("--appendonly", "no", "--save", "1 1"),
}


class Disk:
    """A file system of its own, of a few MB."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._filling = directory / "filling"

    def fill(self) -> None:
        with contextlib.suppress(OSError), self._filling.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def clear(self) -> None:
        self._filling.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        reason = f"no file system can be mounted: {done.stderr.strip()}"
        if os.geteuid() == 0 and os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    yield Disk(directory)
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.parametrize("how", PERSISTENCE)
def test_a_full_disk_loses_nothing(fleet: Fleet, disk: Disk, how: str) -> None:
    server = fleet.redis_server
    server.stop()
    server.directory = disk.directory / "redis"
    server.start(*PERSISTENCE[how])
    mine = {"node_id": fleet.node_id, "ips": ("203.0.113.5",)}
    dns_plane = fleet.start("dns")
    process = fleet.start()

    def served(name: str) -> bool:
        query = dns.message.make_query(name, "A")
        return bool(dns.query.udp(query, "127.0.0.1", 10, fleet.ports["dns"]).answer)

    fleet.deployed(fleet.reserve(Subdomain(domain="before.gw1.example", **mine)))
    until(lambda: served("before.gw1.example"), "served")
    with fleet.redis() as client:
        disk.fill()
        # What is written while redis has not noticed yet is in its memory all the same.
        during = fleet.reserve(Subdomain(domain="during.gw1.example", **mine))
        until(lambda: "MISCONF" in process.status, "it says so")
        later = fleet.reserve(Subdomain(domain="later.gw1.example", **mine))
        failed = process.log.count("pass ended early")
        process.wait_for(lambda: process.log.count("pass ended early") > failed + 2, "more passes")
        assert not client.hexists("gw1.example.", "later")
        assert fleet.workload(later).result.empty, "nobody is told anything that is not so"
        assert any("redis takes no writes" in problem for problem in fleet.state()["problems"])
        assert fleet.metric("tfgateway_reconciler_failing") == 1
        assert served("before.gw1.example")
        disk.clear()
        fleet.deployed(during)
        fleet.deployed(later)
        until(lambda: served("later.gw1.example"), "served")
        until(lambda: not client.exists(OUTBOX), "all acknowledged")
    until(lambda: process.status.startswith("in step with the explorer"), "it says that all is well")
    assert fleet.state()["problems"] == []
    assert fleet.metric("tfgateway_reconciler_failing") == 0
    assert "Traceback" not in process.log + dns_plane.log
