"""The proxies that ours is measured against, each a real program with one process or thread on one processor.

All lead HTTP by Host and TLS by SNI for the name ``localhost`` to the same backend, on ports of their own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tfgateway.redis_schema.keys import service_key
from tfgateway.redis_schema.services import Service, encode_service

from tests.bench.processes import find, pinned, redis_server, running
from tests.support import procfs
from tests.support.ports import free_port

HOST = "localhost"
BEHIND_TUNNEL = "tunnel.localhost"
SECRET = "7:bench"
"""Of the client whom visitors of ``BEHIND_TUNNEL`` are led to; ours only."""
SMALL = b"hello, visitor\n"
BIG = 64 * 1024 * 1024
IDLE = 10_000
"""Connections that are open at once, where the machine allows as many descriptors."""


def _descriptors() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * IDLE + 1000
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


DESCRIPTORS = _descriptors()
"""That each program may have."""
CONNECTIONS = (DESCRIPTORS - 500) // 2
"""That each proxy serves at most: one takes two descriptors, and pipes and listeners take some."""


@dataclass
class Peer:
    """A running proxy."""

    name: str
    http: int
    tls: int
    processes: list[int] = field(default_factory=list)
    """Of the program and what it started."""
    tunnels: int = 0
    """The port for tunnel clients; ours only."""

    def cpu(self) -> float:
        """Seconds on the processor so far, of all its threads."""
        total = 0
        for pid in self.processes:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> int:
        """Octets in physical memory."""
        return sum(self.memory_of_each())

    def memory_of_each(self) -> list[int]:
        """The same for each process."""
        page = os.sysconf("SC_PAGE_SIZE")
        return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in self.processes]

    def descriptors(self) -> int:
        return sum(len(procfs.descriptors(pid)) for pid in self.processes)


@contextlib.contextmanager
def backend(directory: Path, processor: int) -> Iterator[tuple[int, int]]:
    """nginx with a small page (/), and a big one (/big): its ports for HTTP and TLS."""
    http, tls = free_port(), free_port()
    pages = directory / "pages"
    pages.mkdir()
    (pages / "index.html").write_bytes(SMALL)
    (pages / "big").write_bytes(os.urandom(1 << 20) * (BIG >> 20))
    names = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(directory / "key.pem")]
    certificate = ["-out", str(directory / "certificate.pem"), "-days", "2"]
    subprocess.run([find("openssl"), "req", "-x509", *key, *names, *certificate], check=True, capture_output=True)
    config = f"""
user root;
pid {directory}/backend.pid;
error_log stderr crit;
daemon off;
worker_processes 1;
worker_rlimit_nofile {DESCRIPTORS};
events {{ worker_connections {DESCRIPTORS - 100}; multi_accept on; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    server {{
        listen 127.0.0.1:{http} backlog=8192;
        listen 127.0.0.1:{tls} ssl backlog=8192;
        ssl_certificate {directory}/certificate.pem;
        ssl_certificate_key {directory}/key.pem;
        ssl_session_tickets off;
        root {pages};
    }}
}}
"""
    path = directory / "backend.conf"
    path.write_text(config)
    command = pinned(processor, [find("nginx"), "-p", str(directory), "-c", str(path)])
    with running(command, directory / "backend.log", http, tls):
        yield http, tls


_HAPROXY = """
global
    nbthread 1
    maxconn {connections}
    {globally}
defaults
    timeout connect 10s
    timeout client 10m
    timeout server 10m
    {defaults}
frontend http
    mode http
    bind 127.0.0.1:{http} {bind}
    use_backend http if {{ req.hdr(host),field(1,:),lower -m str {host} }}
backend http
    mode http
    {http_backend}
    server one 127.0.0.1:{backend_http}
frontend tls
    mode tcp
    bind 127.0.0.1:{tls} {bind}
    tcp-request inspect-delay 10s
    tcp-request content accept if {{ req_ssl_hello_type 1 }}
    use_backend tls if {{ req_ssl_sni -i {host} }}
backend tls
    mode tcp
    server one 127.0.0.1:{backend_tls}
"""


_TUNED_GLOBALLY = """
    maxpipes 100
    tune.pipesize 1048576
    tune.maxaccept 256
"""
_TUNED_DEFAULTS = """
    option splice-request
    option splice-response
    option tcp-smart-connect
    option dontlognull
"""


@contextlib.contextmanager
def haproxy(directory: Path, processor: int, backends: tuple[int, int], *, tuned: bool) -> Iterator[Peer]:
    """As Debian packages it; ``tuned``: splice, large pipes, deferred accept, a new connection to the backend each."""
    peer = Peer("HAProxy tuned" if tuned else "HAProxy", free_port(), free_port())
    path = directory / f"haproxy-{int(tuned)}.cfg"
    path.write_text(
        _HAPROXY.format(
            http=peer.http,
            tls=peer.tls,
            host=HOST,
            connections=CONNECTIONS,
            backend_http=backends[0],
            backend_tls=backends[1],
            globally=_TUNED_GLOBALLY if tuned else "",
            defaults=_TUNED_DEFAULTS if tuned else "",
            bind="defer-accept" if tuned else "",
            http_backend="http-reuse never" if tuned else "",
        )
    )
    command = pinned(processor, [find("haproxy"), "-db", "-f", str(path)])
    with running(command, directory / "haproxy.log", peer.http, peer.tls) as program:
        peer.processes = program.family
        yield peer


@contextlib.contextmanager
def nginx(directory: Path, processor: int, backends: tuple[int, int]) -> Iterator[Peer]:
    """TLS by ssl_preread in the stream module; HTTP by its ordinary proxy, with backend connections kept."""
    peer = Peer("nginx", free_port(), free_port())
    path = directory / "nginx.conf"
    path.write_text(f"""
user root;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
pid {directory}/nginx.pid;
error_log stderr crit;
daemon off;
worker_processes 1;
worker_rlimit_nofile {DESCRIPTORS};
events {{ worker_connections {DESCRIPTORS - 100}; }}
stream {{
    map $ssl_preread_server_name $target {{ {HOST} 127.0.0.1:{backends[1]}; }}
    server {{
        listen 127.0.0.1:{peer.tls} backlog=8192;
        ssl_preread on;
        proxy_pass $target;
    }}
}}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    proxy_temp_path {directory}/nginx-temp;
    upstream web {{ server 127.0.0.1:{backends[0]}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{peer.http} backlog=8192;
        server_name {HOST};
        location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
""")
    command = pinned(processor, [find("nginx"), "-p", str(directory), "-c", str(path)])
    with running(command, directory / "nginx.log", peer.http, peer.tls) as program:
        peer.processes = program.family
        yield peer


@contextlib.contextmanager
def sniproxy(directory: Path, processor: int, backends: tuple[int, int]) -> Iterator[Peer]:
    peer = Peer("sniproxy", free_port(), free_port())
    path = directory / "sniproxy.conf"
    path.write_text(f"""
user root
pidfile {directory}/sniproxy.pid
error_log {{
  filename {directory}/sniproxy-errors.log
  priority alert
}}
listen 127.0.0.1:{peer.http} {{
  proto http
  table http
  access_log {{
    filename /dev/null
  }}
}}
listen 127.0.0.1:{peer.tls} {{
  proto tls
  table tls
  access_log {{
    filename /dev/null
  }}
}}
table http {{
  {HOST} 127.0.0.1:{backends[0]}
}}
table tls {{
  {HOST} 127.0.0.1:{backends[1]}
}}
""")
    command = pinned(processor, [find("sniproxy"), "-f", "-c", str(path)])
    with running(command, directory / "sniproxy.log", peer.http, peer.tls) as program:
        peer.processes = program.family
        yield peer


@contextlib.contextmanager
def ours(
    directory: Path, processor: int, backends: tuple[int, int], *, workers: int = 1, redis: int | None = None
) -> Iterator[Peer]:
    """``tfgateway proxy`` with its service in redis; ``processor`` below 0: on all."""
    name = f"ours, {workers} workers" if workers > 1 else "ours"
    peer = Peer(name, free_port(), free_port(), tunnels=free_port())
    with contextlib.ExitStack() as stack:
        if redis is None:
            redis = free_port()
            stack.enter_context(redis_server(directory, redis))
        direct = Service("127.0.0.1", "", backends[1], backends[0], "7")
        put_services(redis, [(HOST, direct), (BEHIND_TUNNEL, Service(clientsecret=SECRET, user="7"))])
        path = directory / f"gateway-{peer.http}.toml"
        path.write_text(f"""
redis.url = "redis://127.0.0.1:{redis}/0"
[proxy]
listen_http = ["127.0.0.1:{peer.http}"]
listen_tls = ["127.0.0.1:{peer.tls}"]
listen_tunnels = ["127.0.0.1:{peer.tunnels}"]
workers = {workers}
metrics = "127.0.0.1:{free_port()}"
allowed_targets = ["127.0.0.1/32"]
max_connections = {CONNECTIONS}
max_connections_per_source = {CONNECTIONS}
""")
        command = [str(Path(sys.executable).with_name("tfgateway")), "--config", str(path), "proxy"]
        if processor >= 0:
            command = pinned(processor, command)
        program = stack.enter_context(running(command, directory / "ours.log", peer.http, peer.tls))
        peer.processes = program.family
        yield peer


@contextlib.contextmanager
def tunnel_client(directory: Path, processor: int, tunnels: int, backends: tuple[int, int]) -> Iterator[Peer]:
    """``tfgateway tunnel``; the ports are those that it leads to."""
    peer = Peer("tunnel client", *backends)
    program = str(Path(sys.executable).with_name("tfgateway"))
    local = (f"--local=127.0.0.1:{peer.http}", f"--local-tls=127.0.0.1:{peer.tls}")
    command = [program, "tunnel", f"--remote=127.0.0.1:{tunnels}", *local, f"--secret={SECRET}", "--json"]
    log = directory / "tunnel.log"
    with running(pinned(processor, command), log) as client:
        client.until(lambda: '"connected"' in log.read_text(), "tunnel")
        peer.processes = client.family
        yield peer


def put_services(port: int, services: Iterable[tuple[str, Service]]) -> None:
    """Written as the reconciler writes them, a thousand at a time."""
    pending = iter(services)
    with socket.create_connection(("127.0.0.1", port)) as link:
        while batch := list(itertools.islice(pending, 1000)):
            commands = []
            for name, service in batch:
                parts = [b"SET", service_key(name).encode(), encode_service(name, service)]
                commands.append(b"*3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
            link.sendall(b"".join(commands))
            left = len(batch) * len(b"+OK\r\n")
            while left:
                left -= len(link.recv(left))
