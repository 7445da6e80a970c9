"""From a release with other modules and names to this one, and back: they share files and messages only."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from .conftest import DnsNode
from .load import connections, dnsperf

ROOT = Path(__file__).resolve().parents[3]
OLDER = "cf0166e2b013"
"""A commit before the packages were rebuilt by stages."""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The source of the daemon as it was then."""
    source = "files/gateway_daemon/src"
    packed = subprocess.run(["git", "archive", OLDER, source], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"no source of {OLDER} here: {packed.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(tmp_path / "older", filter="data")
    return tmp_path / "older" / source


@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_an_older_release_is_upgraded_and_rolled_back_without_a_lost_query(
    dns_node: DnsNode, tmp_path: Path, older: Path, mode: str
) -> None:
    dns_node.hook = f'sys.path.insert(0, "{older}")'
    dns_node.release("older")
    dns_node.hook = ""
    dns_node.switch("older")
    process = dns_node.start()
    pid = process.pid
    # That release ends a TCP connection which it found silent for 0.2 s: each query has a new one.
    with dnsperf(dns_node, tmp_path, "udp") if mode == "udp" else connections(dns_node):
        dns_node.switch("one")
        assert "generation 2: 2 workers of one" in dns_node.reloaded()
        dns_node.switch("older")
        assert "generation 3: 2 workers of older" in dns_node.reloaded()
        dns_node.switch("one")
        assert "generation 4: 2 workers of one" in dns_node.reloaded()
    dns_node.wait_for(lambda: len(process.workers) == 2, "end of the generations before")
    assert process.pid == pid
    assert dns_node.figures()['tfgateway_reloads_total{outcome="done",plane="dns"}'] == 3
    assert "supervisor is still that of the release before" not in process.status
    assert process.stop() == 0
