"""Ports for tests: processes beside each other never get the same one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import ports

ROOT = Path(__file__).parents[3]


def claimable(port: int) -> bool:
    """Whether another process gets it."""
    command = [sys.executable, "-c", f"from tests.support import ports; print(ports._claim({port}))"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_a_port_is_given_to_one_process_until_that_ends() -> None:
    port = ports.free_port()
    assert not claimable(port)
    script = "from tests.support import ports; print(ports.free_port(), flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    theirs = int(other.stdout.readline())
    assert theirs != port
    assert not claimable(theirs)
    other.communicate("\n")
    assert claimable(theirs)


def test_a_process_gets_each_port_once() -> None:
    found = [ports.free_port() for _ in range(300)]
    assert len(set(found)) == len(found)
