"""Programs that a benchmark starts: one that ends, or is silent for too long, stops it at once with what it said."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from tests.support import procfs

PATIENCE = 120.0
"""Seconds that a program has to begin."""
_EXCERPT = 2000


class Missing(Exception):
    """A program that is not installed."""


def find(program: str) -> str:
    """Its path. Errors: ``Missing``."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if path is None:
        raise Missing(program)
    return path


class Program:
    """A running one."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid = process.pid
        self.started = time.monotonic()
        self._process = process
        self._log = log

    def check(self) -> None:
        """Errors: ``RuntimeError`` when it has ended."""
        if (code := self._process.poll()) is not None:
            raise RuntimeError(f"{self._process.args!r} ended with {code}:\n{self._said()}")

    def until(self, condition: Callable[[], object], what: str = "an answer", pause: float = 0.02) -> None:
        """Wait while it runs; a condition that meets a closed port does not hold. Errors: ``RuntimeError``."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                if condition():
                    return
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self._process.args!r}: no {what} in {PATIENCE:.0f} s:\n{self._said()}")
            time.sleep(pause)

    @property
    def family(self) -> list[int]:
        """Process ids: its own, and those of what it started."""
        return _family(self.pid)

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-_EXCERPT:]


def pinned(processor: int, command: list[str]) -> list[str]:
    """``command`` on one processor of this machine."""
    return [find("taskset"), "-c", str(processor), *command]


@contextlib.contextmanager
def running(command: list[str], log: Path, *ports: int, **options: Any) -> Iterator[Program]:
    """A program, once it takes connections at ``ports``; options: of ``Popen``. Errors: ``RuntimeError``."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options)
    try:
        program = Program(process, log)
        for port in ports:
            program.until(lambda port=port: _connects(port), f"listener at {port}")
        yield program
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _connects(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


@contextlib.contextmanager
def redis_server(directory: Path, port: int) -> Iterator[Program]:
    """An empty redis-server that answers; what it holds is lost when it ends."""
    command = [find("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with (
        running(command, directory / "redis.log") as program,
        redis.Redis(port=port, retry=None, socket_timeout=1) as client,
    ):
        program.until(lambda: _is_redis(client, program.pid))
        yield program


def _is_redis(client: redis.Redis, pid: int) -> bool:
    try:
        return bool(client.info("server")["process_id"] == pid)
    except redis.RedisError:
        return False


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _family(int(child))
    return found


def memory(pid: int, what: str) -> float:
    """Megabytes of a process: ``VmRSS``, now, or ``VmHWM``, at its peak (proc(5))."""
    return procfs.memory(pid, what) / 1024
