"""What benchmarks start: distinct ports, and an end at once when a program does not live."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.bench import processes
from tests.support.ports import free_port


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(300)]
    assert len(set(ports)) == 300


def test_a_program_that_ends_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no room')"]
    with (
        pytest.raises(RuntimeError, match=r"ended with 1:\nno room"),
        processes.running(command, tmp_path / "log", free_port()),
    ):
        raise AssertionError("it takes connections")


def test_a_program_that_ends_while_something_is_waited_for_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "input(); raise SystemExit('later')"]
    with processes.running(command, tmp_path / "log") as program, pytest.raises(RuntimeError, match="ended with 1"):
        program.until(lambda: False)


def test_redis_without_its_port_is_no_redis(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match="Address already in use"), processes.redis_server(tmp_path, port):
            raise AssertionError("it has a port that somebody else has")


def test_what_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    listen = f"import socket, time; time.sleep(0.3); s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    with processes.running([sys.executable, "-c", listen], tmp_path / "log", port) as program:
        assert program.family == [program.pid]
        assert processes.memory(program.pid, "VmRSS") > 0
