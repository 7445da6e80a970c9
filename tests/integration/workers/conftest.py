"""A data plane with its supervisor, started from a release as on a node: ``current`` is a link that tests switch."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.support import waiting
from tests.support.metrics import scrape
from tests.support.processes import Process, RedisServer, StartProcess

from .scenarios import Rig, Rigs

LIMIT = 300.0
"""Seconds after which something that does not happen is a failure."""

_LAUNCHER = """#!/bin/sh
[ -z "$TFGATEWAY_WORKER" ] || [ ! -e {crash} ] || exit 7
{damage}
here=$(dirname "$(readlink -f "$0")")
exec "$here/python" -c '
import site, sys
site.addsitedir("{packages}")
del sys.argv[0]
{hook}
from tfgateway.cli.main import main
main(prog_name="tfgateway")
' "$0" "$@"
"""


class Node:
    """One plane on one machine."""

    def __init__(self, directory: Path, start_process: StartProcess, plane: str, metrics_port: int) -> None:
        self.directory = directory
        self.plane = plane
        self.crash = directory / "crash"
        """While it is there, workers end as soon as they start."""
        self.config = directory / "gateway.toml"
        self.current = directory / "current"
        self.process: Process
        """Once it was started."""
        self.hook = ""
        """Python that runs in each process of a release before the program."""
        self._start_process = start_process
        self._metrics_port = metrics_port
        self._runtime = directory / "run"
        self._runtime.mkdir()
        self.release("one")
        self.switch("one")

    def release(self, name: str, damage: str = "") -> None:
        """A release; ``damage``: a shell command that it begins with."""
        program = self.directory / "releases" / name / "bin" / "tfgateway"
        program.parent.mkdir(parents=True)
        packages = sysconfig.get_path("purelib")
        program.write_text(_LAUNCHER.format(crash=self.crash, damage=damage, packages=packages, hook=self.hook))
        program.chmod(0o755)
        (program.parent / "python").symlink_to(Path(sys.executable).resolve())

    def switch(self, name: str) -> None:
        self.current.unlink(missing_ok=True)
        self.current.symlink_to(self.directory / "releases" / name)

    def start(self, *, ready: bool = True) -> Process:
        self.process = self._start_process(self.plane, self._command(self.plane), self._environ)
        return self.process.wait_ready() if ready else self.process

    def reload(self) -> subprocess.CompletedProcess[str]:
        """`systemctl reload`, in effect; asked by the first release: a broken one cannot even ask."""
        command = self._command("reload", self.plane, "--timeout", str(LIMIT))
        command[0] = str(self.directory / "releases" / "one" / "bin" / "tfgateway")
        return subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)

    def reloaded(self) -> str:
        done = self.reload()
        assert done.returncode == 0, done.stderr + self.process.log
        return done.stdout

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        waiting.until(condition, what, LIMIT, log=lambda: f"{self.process.status}\n{self.process.log}")

    def figures(self) -> dict[str, float]:
        return scrape(self._metrics_port)

    @property
    def _environ(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "RUNTIME_DIRECTORY": str(self._runtime)}

    def _command(self, *arguments: str) -> list[str]:
        return [str(self.current / "bin" / "tfgateway"), "--config", str(self.config), *arguments]


class DnsNode(Node):
    """With one name, www.gw1.example."""

    def __init__(
        self, directory: Path, start_process: StartProcess, redis: RedisServer, ports: tuple[int, int]
    ) -> None:
        super().__init__(directory, start_process, "dns", ports[1])
        self.port = ports[0]
        self._redis = redis
        with redis.client() as client:
            client.hset("gw1.example.", "www", json.dumps({"a": [{"ip": "203.0.113.5", "ttl": 300}]}))

    def configure(
        self, *, workers: int = 2, port: int = 0, hang_timeout: float = 60, extra: str = "", dns: str = ""
    ) -> None:
        """hang_timeout: short only where a worker hangs; a busy machine may keep one silent for some seconds."""
        self.config.write_text(f"""
            [redis]
            url = "{self._redis.url}"
            [gateway]
            name_servers = ["ns1.gateway.example"]
            [workers]
            hang_timeout = {hang_timeout}
            {extra}
            [dns]
            workers = {workers}
            listen = ["127.0.0.1:{port or self.port}"]
            metrics = "127.0.0.1:{self._metrics_port}"
            {dns}
        """)

    def answers(self, port: int = 0) -> bool:
        reply = dns.query.udp(self.query(), "127.0.0.1", timeout=LIMIT, port=port or self.port)
        return len(reply.answer) == 1

    def query(self) -> dns.message.Message:
        return dns.message.make_query("www.gw1.example", "A")

    def asked(self) -> float:
        """Queries that were answered, as the page tells."""
        return sum(value for name, value in self.figures().items() if name.startswith("tfgateway_dns_queries_total"))


@pytest.fixture
def dns_node(
    tmp_path: Path, start_process: StartProcess, redis_server: RedisServer, free_port: Callable[[], int]
) -> DnsNode:
    """Two workers, not started yet."""
    node = DnsNode(tmp_path, start_process, redis_server, (free_port(), free_port()))
    node.configure()
    return node


@pytest.fixture
def rigs(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    start_process: StartProcess,
    redis_server: RedisServer,
    free_port: Callable[[], int],
) -> Iterator[Rigs]:
    """Nodes that are under way; the parameter: how many, and how many workers each."""
    count, workers = request.param

    def start(name: str) -> Rig:
        (tmp_path / name).mkdir()
        node = DnsNode(tmp_path / name, start_process, redis_server, (free_port(), free_port()))
        return Rig(node, workers=workers)

    started = [start(f"node-{number}") for number in range(count)]
    yield Rigs(started)
    for rig in started:
        rig.asker.stop()


@pytest.fixture
def proxy_node(
    tmp_path: Path, start_process: StartProcess, redis_server: RedisServer, free_port: Callable[[], int]
) -> Node:
    """Two workers at ``node.port``, not started yet."""
    metrics = free_port()
    node = Node(tmp_path, start_process, "proxy", metrics)
    node.port = free_port()  # type: ignore[attr-defined]
    node.config.write_text(f"""
        [redis]
        url = "{redis_server.url}"
        [proxy]
        workers = 2
        listen_http = ["127.0.0.1:{node.port}"]
        listen_tls = []
        listen_tunnels = []
        metrics = "127.0.0.1:{metrics}"
        allowed_targets = ["127.0.0.1/32"]
    """)  # type: ignore[attr-defined]
    return node
