"""The servers that are compared: real processes, on one core, with the same zone, cookies and rate limiting.

PowerDNS has no rate limiting; it runs without.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.bench.dns.questions import SECRET, ZONE, address, field, host, zone_file
from tests.bench.processes import find, running
from tests.support.ports import free_port

CORE = 0
"""Where servers run; the load comes from another one."""
RATE = 50
"""Alike responses a second that a network may cause; nobody asks for so many."""
_STARTS = 120.0
_QUERY = bytes.fromhex("000000000001000000000000") + b"\x05bench\x07example\0\0\6\0\1"


class Server:
    """A running one."""

    def __init__(self, name: str, command: list[str], directory: Path, port: int, cores: set[int]) -> None:
        self.name, self.port = name, port
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, sorted(cores))), *command],
            stdout=self._log,
            stderr=self._log,
            cwd=directory,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        )
        began = time.monotonic()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > began + _STARTS:
                self.stop()
                raise RuntimeError(f"{name} does not start:\n{(directory / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        self.started = time.monotonic() - began

    @property
    def cpu(self) -> float:
        """Seconds of processor time, of all its processes and threads, so far."""
        return (
            sum(int((task / "schedstat").read_text().split()[0]) for pid in self._pids() for task in _tasks(pid)) / 1e9
        )

    @property
    def memory(self) -> float:
        """Megabytes resident, of all its processes."""
        sizes = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self._pids())
        return sum(map(int, sizes)) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _pids(self) -> list[int]:
        found, queue = [], [self._process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in _tasks(pid):
                with contextlib.suppress(OSError):
                    queue += map(int, (task / "children").read_text().split())
        return found

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            with contextlib.suppress(OSError):
                sock.connect(("127.0.0.1", self.port))
                sock.send(_QUERY)
                reply = sock.recv(4096)
                return reply[3] & 0xF == 0 and reply[7] == 1
        return False


def _tasks(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def nsd(directory: Path, port: int) -> list[str]:
    (directory / "nsd.conf").write_text(f"""
server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  zonesdir: "{directory}"
  database: ""
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  zonelistfile: "{directory}/zone.list"
  verbosity: 0
  minimal-responses: yes
  answer-cookie: yes
  cookie-secret: "{SECRET.hex()}"
  rrl-ratelimit: {RATE}
remote-control:
  control-enable: no
zone:
  name: {ZONE}
  zonefile: zone
""")
    return ["nsd", "-d", "-c", "nsd.conf"]


def knot(directory: Path, port: int) -> list[str]:
    (directory / "knot.conf").write_text(f"""
server:
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    rundir: {directory}
log:
  - target: stderr
    any: error
database:
    storage: {directory}
mod-rrl:
  - id: default
    rate-limit: {RATE}
mod-cookies:
  - id: default
    secret: 0x{SECRET.hex()}
template:
  - id: default
    storage: {directory}
    global-module: [mod-rrl/default, mod-cookies/default]
    zonefile-load: whole
    journal-content: none
zone:
  - domain: {ZONE}
    file: zone
""")
    return ["knotd", "-c", "knot.conf"]


def bind(directory: Path, port: int) -> list[str]:
    (directory / "named.conf").write_text(f"""
options {{
  directory "{directory}"; pid-file "{directory}/named.pid"; session-keyfile "{directory}/session.key";
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; allow-query {{ any; }}; dnssec-validation no; minimal-responses yes; empty-zones-enable no;
  notify no; cookie-algorithm siphash24; cookie-secret "{SECRET.hex()}";
  rate-limit {{ responses-per-second {RATE}; nxdomains-per-second {RATE}; max-table-size 100000; }};
}};
controls {{ }};
zone "{ZONE}" {{ type primary; file "zone"; }};
""")
    return ["named", "-f", "-n", "1", "-c", str(directory / "named.conf")]


def powerdns(directory: Path, port: int) -> list[str]:
    (directory / "named.conf").write_text(f'zone "{ZONE}" {{ type native; file "{directory}/zone"; }};\n')
    (directory / "pdns.conf").write_text(f"""
launch=bind
bind-config={directory}/named.conf
local-address=127.0.0.1
local-port={port}
receiver-threads=1
distributor-threads=1
edns-cookie-secret={SECRET.hex()}
socket-dir={directory}
daemon=no
guardian=no
loglevel=3
""")
    return ["pdns_server", f"--config-dir={directory}"]


PEERS = {"NSD": nsd, "Knot": knot, "BIND": bind, "PowerDNS": powerdns}
_PROGRAMS = {"NSD": "nsd", "Knot": "knotd", "BIND": "named", "PowerDNS": "pdns_server"}
OURS = "tfgateway"


@contextlib.contextmanager
def peer(name: str, directory: Path, names: int) -> Iterator[Server]:
    """One of PEERS with a zone of so many names. Errors: ``RuntimeError``."""
    if shutil.which(_PROGRAMS[name], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        raise RuntimeError(f"{_PROGRAMS[name]} is missing: tools/setup.py bench installs it")
    home = directory / f"{name}-{names}"
    home.mkdir()
    with (home / "zone").open("w") as file:
        file.writelines(zone_file(names))
    port = free_port()
    server = Server(name, PEERS[name](home, port), home, port, {CORE})
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def store(directory: Path, names: int) -> Iterator[Path]:
    """A redis with the zone; its socket."""
    home = directory / f"redis-{names}"
    home.mkdir()
    path = home / "redis.sock"
    command = [find("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(home)]
    with running(command, home / "log") as program:
        program.until(path.exists, "socket")
        with redis.Redis(unix_socket_path=str(path)) as client:
            for start in range(0, names, 10_000):
                fields = {host(number): field(address(number)) for number in range(start, min(start + 10_000, names))}
                client.hset(ZONE, mapping=fields)  # type: ignore[arg-type]
        yield path


@contextlib.contextmanager
def ours(directory: Path, unix_socket: Path, workers: int = 1, name: str = OURS) -> Iterator[Server]:
    """The gateway's own, from this redis."""
    home = directory / f"{name}-{workers}-{unix_socket.parent.name}"
    home.mkdir()
    port = free_port()
    (home / "secrets").write_text(f"cookies = ['{SECRET.hex()}']\n")
    (home / "gateway.toml").write_text(f"""
[redis]
url = "unix://{unix_socket}"
[gateway]
name_servers = ["ns1.gateway.example."]
[dns]
listen = ["127.0.0.1:{port}"]
workers = {workers}
metrics = "127.0.0.1:{free_port()}"
secrets = "{home}/secrets"
[dns.rate_limit]
responses = {RATE}
nxdomains = {RATE}
""")
    command = [str(Path(sys.executable).with_name("tfgateway")), "--config", str(home / "gateway.toml"), "dns"]
    server = Server(name, command, home, port, {CORE} if workers == 1 else {CORE, CORE + 1})
    try:
        yield server
    finally:
        server.stop()
