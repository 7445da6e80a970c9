"""Real neighbours for the integration tests: a redis-server, the command line as a process, an explorer.

Everything listens on 127.0.0.1, keeps its files under ``tmp_path`` and ends with the test.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.support import ports
from tests.support.postgresql import Server, running
from tests.support.processes import CommandLine, Explorer, Process, RedisServer, StartProcess

_PROCESSES = pytest.StashKey[list[Process]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its processes wrote."""
    report = yield
    if report.failed:
        for process in item.stash.get(_PROCESSES, []):
            report.sections.append((f"log of {process.name}", process.log))
    return report


@pytest.fixture
def start_process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartProcess]:
    """``start_process(name, command, environ)``: killed after the test, its log shown when the test failed."""
    started: list[Process] = request.node.stash.setdefault(_PROCESSES, [])

    def start(name: str, command: list[str], environ: dict[str, str] | None = None) -> Process:
        process = Process(name, command, tmp_path / f"process-{len(started)}.log", environ)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Call it for a port of 127.0.0.1 that is free for TCP and for UDP."""
    return ports.free_port


@pytest.fixture
def redis_server(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[RedisServer]:
    """A running, empty redis-server of the test's own."""
    server = RedisServer(free_port(), tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def tfgateway(tmp_path: Path, start_process: StartProcess) -> CommandLine:
    """``tfgateway("dns", config=TOML)`` starts a plane; ``tfgateway.run("state", "--json", config=TOML)`` runs one."""
    return CommandLine(tmp_path, start_process)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running() as server:
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an explorer keeps its data: a file, or the URL of PostgreSQL for a test with that (indirect) parameter."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return tmp_path / "explorer.db"
    url: str = request.getfixturevalue("postgresql").new_database()
    return url


@pytest.fixture
def explorer(database: Path | str, free_port: Callable[[], int], tfgateway: CommandLine) -> Explorer:
    """A running ``tfgateway explorer`` with an empty database, whose registration is closed."""
    started = Explorer(free_port(), database, tfgateway)
    started.start()
    return started


@pytest.fixture
def open_explorer(database: Path | str, free_port: Callable[[], int], tfgateway: CommandLine) -> Explorer:
    """As ``explorer``, open as old clients need it."""
    started = Explorer(free_port(), database, tfgateway)
    started.start("--registration=open")
    return started
