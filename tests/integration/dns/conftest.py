"""The DNS plane as a process beside a real NSD, which copies its zones."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.support import metrics, waiting
from tests.support.processes import CommandLine, Process, RedisServer

LIMIT = 30.0
"""Seconds after which something that does not happen is a failure."""
KEY = "secondary.example"
SECRET = "c2VjcmV0IG9mIDMyIGJ5dGVzLCBpbiBiYXNlIDY0ISE="
SECRETS = f'[[tsig]]\nname = "{KEY}."\nsecret = "{SECRET}"\n'


def ask(
    port: int, name: str, kind: str = "A", *, tcp: bool = False, source: str | None = None, **options: object
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)
    return (dns.query.tcp if tcp else dns.query.udp)(query, "127.0.0.1", timeout=LIMIT, port=port, source=source)


@dataclass
class Gateway:
    """A running ``tfgateway dns``."""

    process: Process
    redis: RedisServer
    port: int
    metrics_port: int

    def write(self, zone: str, fields: Mapping[str, object]) -> None:
        with self.redis.client() as client:
            client.hset(zone, mapping={field: json.dumps(value) for field, value in fields.items()})

    def metrics(self) -> dict[str, float]:
        return metrics.scrape(self.metrics_port)


@pytest.fixture
def gateway(
    redis_server: RedisServer, tfgateway: CommandLine, free_port: Callable[[], int], tmp_path: Path
) -> Callable[..., Gateway]:
    """``gateway(zones, dns=TOML)``: zones is {key: {field: records}}; the file of secrets has the key KEY."""

    def make(zones: Mapping[str, Mapping[str, object]], dns: str = "", secrets_text: str = SECRETS) -> Gateway:
        secrets = tmp_path / "secrets.toml"
        secrets.write_text(secrets_text)
        port, metrics_port = free_port(), free_port()
        with redis_server.client() as client:
            pipe = client.pipeline(transaction=False)
            for zone, fields in zones.items():
                pipe.hset(
                    zone,
                    mapping={
                        field: value if isinstance(value, bytes) else json.dumps(value)
                        for field, value in fields.items()
                    },
                )
            pipe.execute()
        config = f"""
            [redis]
            url = "{redis_server.url}"
            [gateway]
            name_servers = ["ns1.gateway.example", "ns2.gateway.example"]
            [dns]
            workers = 1
            listen = ["127.0.0.1:{port}"]
            metrics = "127.0.0.1:{metrics_port}"
            secrets = "{secrets}"
            {dns}
        """
        return Gateway(tfgateway("dns", config=config), redis_server, port, metrics_port)

    return make


class Nsd:
    """An NSD that is secondary for some zones, at 127.0.0.1."""

    def __init__(self, directory: Path, port: int, primary: int, zones: Sequence[str], key: str, options: str) -> None:
        self.port = port
        self.directory = directory
        directory.mkdir()
        served = "".join(f'zone:\n  name: "{zone}"\n  include-pattern: copied\n' for zone in zones)
        (directory / "nsd.conf").write_text(f"""
server:
  ip-address: 127.0.0.1@{port}
  username: ""
  zonesdir: "{directory}"
  pidfile: "{directory}/pid"
  xfrdir: "{directory}"
  database: ""
  xfrdfile: "{directory}/xfrd"
  zonelistfile: "{directory}/list"
  logfile: "{directory}/log"
  server-count: 1
  do-ip6: no
  rrl-ratelimit: 0
  ipv4-edns-size: 1232
  round-robin: no
  hide-version: yes
  {options}
remote-control:
  control-enable: no
key:
  name: "{KEY}"
  algorithm: hmac-sha256
  secret: "{SECRET}"
pattern:
  name: copied
  request-xfr: AXFR 127.0.0.1@{primary} {key}
  allow-notify: 127.0.0.1 {key}
  max-retry-time: 1
{served}""")
        command = [shutil.which("nsd") or "/usr/sbin/nsd", "-d", "-c", str(directory / "nsd.conf")]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    @property
    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / "log").read_text(errors="backslashreplace")
        return ""

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        waiting.until(
            condition,
            f"nsd: {what}",
            pause=0.05,
            running=lambda: self._child.poll() is None,
            log=lambda: self.log[-5000:],
        )

    def serial(self, zone: str) -> int | None:
        """Of the copy; None: it has none, or does not answer yet."""
        query = dns.message.make_query(zone, "SOA")
        try:
            reply = dns.query.udp(query, "127.0.0.1", timeout=0.5, port=self.port)
        except (dns.exception.Timeout, OSError):
            return None
        return reply.answer[0][0].serial if reply.rcode() == dns.rcode.NOERROR and reply.answer else None

    def close(self) -> None:
        self._child.terminate()
        self._child.wait(LIMIT)


@pytest.fixture
def nsd(tmp_path: Path) -> Iterator[Callable[..., Nsd]]:
    """``nsd(port, primary_port, zones, key=KEY, options="")``: key: of transfers and NOTIFY, or ``NOKEY``."""
    started: list[Nsd] = []

    def start(port: int, primary: int, zones: Sequence[str], key: str = KEY, options: str = "") -> Nsd:
        started.append(Nsd(tmp_path / f"nsd-{len(started)}", port, primary, zones, key, options))
        return started[-1]

    yield start
    for server in started:
        server.close()
