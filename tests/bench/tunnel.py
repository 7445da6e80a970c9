"""Tunnels against hashicorp's yamux in Go: the whole way from a visitor to a service, and a thousand clients at once.

Ours are ``tfgateway proxy`` (one worker) and ``tfgateway tunnel``; theirs is a small pair that relays with the library
(tests/interop/yamux_peer) and has nothing else to do: no host name to find, no access log. Both pairs are on one
processor, load and service on the other, and take turns in every round; figures are medians. What is compared is work
divided by processor time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from tfgateway.redis_schema.keys import service_key
from tfgateway.redis_schema.services import Service, encode_service
from tfgateway.tunnel.handshake import encode_handshake
from tfgateway.tunnel.yamux.frames import Flag, Kind, encode

from tests.bench.processes import pinned, redis_server, running
from tests.bench.report import Figure, publish
from tests.interop import peer as go
from tests.support.ports import free_port

ROUNDS = 3
PATIENCE = 60.0
HOST = "tunnel.example"
SECRET = "7:bench"
LOAD, SERVED = 0, 1
"""Processors."""
WORK = {"one stream": (1, 600_000_000), "100 streams": (100, 6_000_000), "1000 short visits": (1000, 1000)}
"""Visitors in all, at most 100 at once, and octets for each."""
BOUNDS = {
    # work, part: floor, goal
    ("one stream", "server"): (0.4, 1.0),
    ("one stream", "client"): (0.4, 1.0),
    ("100 streams", "server"): (0.9, 1.1),
    ("100 streams", "client"): (0.7, 1.0),
    ("1000 short visits", "server"): (0.7, 1.0),
    ("1000 short visits", "client"): (0.7, 1.0),
}
"""Of ours divided by Go's."""
AT_ONCE = 100
OURS = str(Path(sys.executable).with_name("tfgateway"))
CLIENTS = 1000


@dataclass
class Pair:
    """A server and a client of tunnels."""

    name: str
    tunnels: int
    visitors: int
    server: list[int] = field(default_factory=list)
    """Process ids."""
    client: list[int] = field(default_factory=list)

    def cpu(self, part: str) -> float:
        """Seconds on the processor so far, of all threads."""
        total = 0
        for pid in getattr(self, part):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9


def measure(scale: float) -> bool:
    """All figures. True: every floor is reached."""
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as name, contextlib.ExitStack() as stack:
        source = free_port()
        directory = Path(name)
        command = [sys.executable, "-m", "tests.bench.tunnel_source", str(source)]
        stack.enter_context(running(pinned(LOAD, command), directory / "source.log", source))
        ours = stack.enter_context(our_server(directory))
        stack.enter_context(our_client(directory, ours, ours.tunnels, source))
        pairs = [ours]
        if not go.missing():
            theirs = stack.enter_context(their_server(directory))
            stack.enter_context(their_client(directory, theirs, theirs.tunnels, source))
            pairs.append(theirs)
        os.sched_setaffinity(0, {LOAD})
        figures = _work(pairs, scale) + _reconnect(pairs, int(CLIENTS * scale))
    conditions: dict[str, object] = {"rounds": ROUNDS, "processors": "one for the pair, one for the load"}
    if go.missing():
        conditions["not compared"] = go.missing()
    return publish("tunnel", conditions, figures)


def _work(pairs: list[Pair], scale: float) -> list[Figure]:
    rates: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for work, (visitors, octets) in WORK.items():
            for pair in pairs:
                before = {part: pair.cpu(part) for part in ("server", "client")}
                count = max(1, int(visitors * scale)) if octets < 10_000 else visitors
                size = octets if octets < 10_000 else int(octets * scale)
                visit(pair.visitors, count, size)
                for part in ("server", "client"):
                    used = max(pair.cpu(part) - before[part], 1e-6)
                    done = count if octets < 10_000 else count * size / 1e6
                    rates.setdefault((work, part, pair.name), []).append(done / used)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    figures = []
    for (work, part, name), value in medians.items():
        unit = "/cpu s" if WORK[work][1] < 10_000 else "MB/cpu s"
        figures.append(Figure(f"{work}, {part}, {name}", value, unit))
    for work in WORK:
        for part in ("server", "client"):
            if (work, part, "Go") in medians:
                ratio = medians[work, part, "ours"] / medians[work, part, "Go"]
                floor, goal = BOUNDS[work, part]
                figures.append(Figure(f"{work}, {part}: ours / Go", ratio, "x", floor=floor, goal=goal))
    return figures


def visit(port: int, visitors: int, octets: int, at_once: int = AT_ONCE) -> None:
    """So many visitors, ``at_once`` at a time, each reads so many octets and the end."""
    request = f"GET /{octets} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    scratch = bytearray(1 << 20)
    left = {}
    started = 0
    with selectors.DefaultSelector() as selector:
        while started < visitors or left:
            while started < visitors and len(left) < at_once:
                sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
                sock.sendall(request)
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ)
                left[sock] = octets
                started += 1
            ready = selector.select(PATIENCE)
            if not ready:
                raise RuntimeError("a visitor waits in vain")
            for key, _ in ready:
                visitor: socket.socket = key.fileobj  # type: ignore[assignment]
                count = visitor.recv_into(scratch)
                left[visitor] -= count
                if not count:
                    selector.unregister(visitor)
                    visitor.close()
                    if left.pop(visitor):
                        raise RuntimeError("a visitor got less than was asked for")


def _reconnect(pairs: list[Pair], count: int) -> list[Figure]:
    """So many clients at once, when they have been there before."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(ROUNDS + 1):
        for pair in pairs:
            before, began = pair.cpu("server"), time.perf_counter()
            clients = _introduce(pair.tunnels, count)
            if number:  # the first time they are new
                seconds.setdefault(("until all are registered", pair.name), []).append(time.perf_counter() - began)
                seconds.setdefault(("server's processor time", pair.name), []).append(pair.cpu("server") - before)
            for client in clients:
                client.close()
            time.sleep(0.5)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    figures = [Figure(f"{count} reconnect, {what}, {name}", value, "s") for (what, name), value in medians.items()]
    for what in ("until all are registered", "server's processor time"):
        if (what, "Go") in medians:
            ratio = medians[what, "ours"] / medians[what, "Go"]
            figures.append(Figure(f"{count} reconnect, {what}: ours / Go", ratio, "x"))
    return figures


def _introduce(port: int, count: int) -> list[socket.socket]:
    clients = []
    heard: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for number in range(count):
            client = socket.socket()
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
            clients.append(client)
            heard[client] = b""
            selector.register(client, selectors.EVENT_WRITE, _hello(f"{SECRET}-{number}"))
        while heard:
            ready = selector.select(PATIENCE)
            if not ready:
                raise RuntimeError(f"{len(heard)} clients wait in vain")
            for key, events in ready:
                client = key.fileobj  # type: ignore[assignment]
                if events & selectors.EVENT_WRITE:
                    client.sendall(key.data)
                    selector.modify(client, selectors.EVENT_READ)
                    continue
                data = client.recv(1000)
                if not data:
                    raise RuntimeError("a client is turned away")
                heard[client] += data
                if any(flags & Flag.FIN for flags in heard[client][3::12]):  # its stream is ended: it is registered
                    selector.unregister(client)
                    del heard[client]
    return clients


def _hello(secret: str) -> bytes:
    said = encode_handshake(secret.encode())
    opened = encode(Kind.WINDOW_UPDATE, Flag.SYN, 1, 0)
    return opened + encode(Kind.DATA, 0, 1, len(said)) + said + encode(Kind.WINDOW_UPDATE, Flag.FIN, 1, 0)


@contextlib.contextmanager
def our_server(directory: Path) -> Iterator[Pair]:
    """Without a client."""
    pair = Pair("ours", tunnels=free_port(), visitors=free_port())
    port = free_port()
    with redis_server(directory, port), redis.Redis(port=port) as client:
        services = {f"{number}.{HOST}": f"{SECRET}-{number}" for number in range(CLIENTS)} | {HOST: SECRET}
        with client.pipeline(transaction=False) as pipe:
            for domain, secret in services.items():
                pipe.set(service_key(domain), encode_service(domain, Service(clientsecret=secret, user="7")))
            pipe.execute()
        config = directory / "gateway.toml"
        config.write_text(
            f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\n[log]\nlevel = "warning"\n[proxy]\nworkers = 1\n'
            f'listen_http = ["127.0.0.1:{pair.visitors}"]\nlisten_tls = []\n'
            f'listen_tunnels = ["127.0.0.1:{pair.tunnels}"]\nmetrics = "127.0.0.1:{free_port()}"\n'
        )
        command = pinned(SERVED, [OURS, "--config", str(config), "proxy"])
        with running(command, directory / "proxy.log", pair.visitors, pair.tunnels) as proxy:
            pair.server = proxy.family
            yield pair


@contextlib.contextmanager
def our_client(directory: Path, pair: Pair, remote: int, source: int) -> Iterator[None]:
    """Of ``pair``, which it reaches at port ``remote``."""
    command = [OURS, "tunnel", f"--remote=127.0.0.1:{remote}", f"--local=127.0.0.1:{source}", f"--secret={SECRET}"]
    log = directory / "tunnel.log"
    with running(pinned(SERVED, command), log) as tunnel:
        tunnel.until(lambda: "connected" in log.read_text(), "session")
        pair.client = [tunnel.pid]
        visit(pair.visitors, 1, 1000)
        yield


@contextlib.contextmanager
def their_server(directory: Path) -> Iterator[Pair]:
    """Without a client."""
    log = directory / "relay-server.log"
    command = [str(go.build()), "relay-server", "127.0.0.1:0", "127.0.0.1:0"]
    with running(pinned(SERVED, command), log) as server:
        server.until(lambda: "\n" in log.read_text(), "line with its addresses")
        _, tunnels, visitors = log.read_text().split("\n")[0].split()
        pair = Pair("Go", *(int(address.rpartition(":")[2]) for address in (tunnels, visitors)))
        pair.server = [server.pid]
        yield pair


@contextlib.contextmanager
def their_client(directory: Path, pair: Pair, remote: int, source: int) -> Iterator[None]:
    """Of ``pair``, which it reaches at port ``remote``."""
    command = [str(go.build()), "relay-client", f"127.0.0.1:{remote}", SECRET, f"127.0.0.1:{source}"]
    with running(pinned(SERVED, command), directory / "relay-client.log") as client:
        time.sleep(0.5)
        pair.client = [client.pid]
        visit(pair.visitors, 1, 1000)
        yield
