"""A PostgreSQL server of the tests' own, from the distribution's package; it runs as a user that is not root."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from tests.support import waiting
from tests.support.ports import free_port

_USER = "postgres"  # of the package
_QUICK = ("fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0")
_MEMORY, _DISK = Path("/dev/shm"), Path("/var/tmp")
_ROOM = 2**30
_numbers = itertools.count(1)


def program(name: str) -> str:
    """The newest version's program."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1])


def run(*command: str) -> str:
    """What a program of PostgreSQL prints, run as its user."""
    done = subprocess.run([*_as_user(), *command], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--"]


class Server:
    """One server, with its files in ``directory``, which is its user's."""

    def __init__(self, directory: Path, settings: Sequence[str] = _QUICK, data: Path | None = None) -> None:
        """data: an existing data directory, such as a copy; None: a new one."""
        self.port = free_port()
        self._directory = directory
        self.data = data or directory / "data"
        if data is None:
            run(
                program("initdb"), "--pgdata", str(self.data), "--username=test", "--auth=trust", "--no-sync",
                "--encoding=UTF8", "--locale=C.UTF-8",
            )  # fmt: skip
        self._settings = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={directory}"]
        self._settings += ["max_connections=200", *settings]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        command = [program("postgres"), "-D", str(self.data), *(f"-c{setting}" for setting in self._settings)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen([*_as_user(), *command], stdout=log, stderr=log, cwd="/")
        self._wait()

    def _wait(self) -> None:
        ready = [program("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        process = self._process
        waiting.until(
            lambda: subprocess.run(ready, stdout=subprocess.DEVNULL).returncode == 0,
            "PostgreSQL answers",
            running=lambda: process is not None and process.poll() is None,
            log=(self._directory / "log").read_text,
        )

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: without waiting for clients; SIGQUIT: as after a power cut."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(waiting.LIMIT)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://test@127.0.0.1:{self.port}/{quote(database)}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement, not in a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"explorer{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a database that is empty, and removed in the end."""
        url = self.new_database()
        yield url
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def standby(self, directory: Path, name: str) -> Server:
        """A server that follows this one, under the name by which this one waits for it; still to be started."""
        data = directory / name
        source = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "test"]
        run(program("pg_basebackup"), *source, "-D", str(data), "--checkpoint=fast", "--no-sync")
        run("touch", str(data / "standby.signal"))
        follow = f"primary_conninfo=host=127.0.0.1 port={self.port} user=test application_name={name}"
        return Server(directory, ("fsync=off", "hot_standby=on", follow), data)

    def promote(self) -> None:
        """Make a standby the primary."""
        run(program("pg_ctl"), "promote", "-D", str(self.data))


@contextmanager
def directory(*, in_memory: bool = False) -> Iterator[Path]:
    """A folder of the servers' user. Not pytest's, nor below TMPDIR: nobody but root may get there.

    in_memory: where there is room, since a database is hundreds of files.
    """
    room = in_memory and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    with tempfile.TemporaryDirectory(prefix="tfgateway-postgresql-", dir=_MEMORY if room else _DISK) as path:
        if os.geteuid() == 0:
            shutil.chown(path, _USER, _USER)
        yield Path(path)


@contextmanager
def running(settings: Sequence[str] = _QUICK) -> Iterator[Server]:
    """A server while the context lasts."""
    with directory(in_memory=settings is _QUICK) as place:
        server = Server(place, settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()
