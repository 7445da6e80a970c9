"""What integration tests start: the command line as a process, redis-server, an explorer.

Everything listens on 127.0.0.1 and keeps its files in a directory of the test.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import redis

from tests.support import procfs, waiting

START_LIMIT = waiting.LIMIT
"""Seconds after which something that does not start is a failure: far more than a slow machine needs."""


class Process:
    """A child process with its log; readiness by ``READY=1`` on a real NOTIFY_SOCKET, as under systemd."""

    def __init__(self, name: str, command: list[str], log: Path, environ: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = log
        self._notifications: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0tfgateway-test-{uuid.uuid4()}")
        address = "@" + self._socket.getsockname()[1:].decode()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TFGATEWAY_")}
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**inherited, **(environ or {}), "NOTIFY_SOCKET": address},
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def log(self) -> str:
        """Everything it wrote so far."""
        return self._log.read_text(errors="backslashreplace")

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    @property
    def notifications(self) -> list[str]:
        """what it sent to the service manager so far: ``["STATUS=...", "READY=1", ...]``."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._notifications.append(self._socket.recv(65536, socket.MSG_DONTWAIT).decode())
        return self._notifications

    @property
    def status(self) -> str:
        """What `systemctl status` would show."""
        said = [one.removeprefix("STATUS=") for one in self.notifications if one.startswith("STATUS=")]
        return said[-1] if said else ""

    @property
    def workers(self) -> list[int]:
        """Process ids of its children, the oldest first."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = procfs.fields(int(process.name))
                if int(fields[1]) == self.pid and fields[0] != "Z":
                    found.append((int(fields[19]), int(process.name)))
        return [pid for _, pid in sorted(found)]

    def wait_ready(self) -> Process:
        self.wait_for(lambda: "READY=1" in self.notifications, "READY=1")
        return self

    def wait_log(self, text: str) -> None:
        self.wait_for(lambda: text in self.log, f"{text!r} in its log")

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Until ``condition`` holds; fails when the process ends before, or after START_LIMIT."""
        waiting.until(
            condition,
            f"{self.name}: {what}",
            START_LIMIT,
            pause=0.01,
            running=lambda: self.running,
            log=lambda: f"exit code {self._child.returncode}\n{self.log}",
        )

    def send_signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self._child.wait(START_LIMIT)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self._child.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL; harmless on a dead one."""
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        self.kill()
        self._socket.close()


class StartProcess(Protocol):
    """The fixture ``start_process``."""

    def __call__(self, name: str, command: list[str], environ: dict[str, str] | None = None) -> Process: ...


class RedisServer:
    """A redis-server with an append-only file; port and data directory outlive ``stop`` and ``start``."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.directory = directory
        self._child: subprocess.Popen[bytes] | None = None

    def client(self) -> redis.Redis:
        """A synchronous client (bytes in, bytes out); close it, or use ``with``."""
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=2)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="backslashreplace")

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def start(self, *options: str) -> None:
        """Start and wait until it answers; ``options`` as on its command line. Harmless when it runs."""
        if self._child is not None:
            return
        self.directory.mkdir(exist_ok=True)
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        command += ["--appendonly", "yes", "--save", "", *options]
        with (self.directory / "log").open("ab") as out:
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        child = self._child
        with self.client() as client:
            waiting.until(
                lambda: _answers(client),
                "an answer of redis-server",
                START_LIMIT,
                pause=0.01,
                running=lambda: child.poll() is None,
                log=lambda: self.log,
            )

    def stop(self) -> None:
        """SIGTERM: what was written is on disk afterwards. Harmless when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: all connections break at once."""
        self._end(signal.SIGKILL)

    def forget(self) -> None:
        """Remove the data of a stopped server: the next ``start`` is an empty one."""
        assert self._child is None
        shutil.rmtree(self.directory)

    def _end(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)
            self._child.wait(START_LIMIT)
            self._child = None


def _answers(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.AuthenticationError:
        return True  # the test asked for a password
    except redis.ConnectionError:
        return False
    return True


class CommandLine:
    """The installed ``tfgateway`` command."""

    def __init__(self, directory: Path, start_process: StartProcess) -> None:
        self._directory = directory
        self._start_process = start_process
        self._numbers = itertools.count(1)

    def __call__(self, *arguments: str, config: str, ready: bool = True) -> Process:
        """Start ``tfgateway ARGUMENTS`` with this gateway.toml text; by default wait until it says READY."""
        number = next(self._numbers)
        command = self._command(arguments, config, number)
        name = f"tfgateway {' '.join(arguments)} ({number})"
        process = self._start_process(name, command)
        return process.wait_ready() if ready else process

    def run(
        self, *arguments: str, config: str, timeout: float = START_LIMIT, stdin: int = subprocess.DEVNULL
    ) -> subprocess.CompletedProcess[str]:
        """Run ``tfgateway ARGUMENTS`` to its end: ``.returncode``, ``.stdout``, ``.stderr``."""
        command = self._command(arguments, config, next(self._numbers))
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, stdin=stdin)

    def _command(self, arguments: tuple[str, ...], config: str, number: int) -> list[str]:
        path = self._directory / f"gateway-{number}.toml"
        path.write_text(config)
        return [str(Path(sys.executable).with_name("tfgateway")), "--config", str(path), *arguments]


class Explorer:
    """A self-hosted explorer in its own process; database and port outlive ``stop`` and ``start``."""

    def __init__(self, port: int, database: Path | str, tfgateway: CommandLine) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.database = database
        self._tfgateway = tfgateway
        self.process: Process | None = None

    def start(self, *options: str) -> None:
        """Start and wait until it accepts connections; ``options`` as on its command line."""
        arguments = ["explorer", "--listen", f"127.0.0.1:{self.port}", "--database", str(self.database), *options]
        self.process = self._tfgateway(*arguments, config="", ready=False)
        self.process.wait_for(self._accepts, "an accepted connection")

    def stop(self) -> None:
        assert self.process is not None
        self.process.stop()

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
