"""What can happen to redis, done to a real gateway while it is asked for all that it serves; wrong answers are counted.

A gateway here is redis, explorer, reconciler, DNS plane and proxy as processes. Two threads ask without a pause: one
for the addresses of all names, one for the pages of all services. *Wrong* is an answer that is not the reserved one;
*lost* is no answer at all, as while a plane is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
from tfgateway.diagnosis.planes import plane_states
from tfgateway.explorer.models import DomainDelegate, Proxy, Subdomain
from tfgateway.identity import seedfile
from tfgateway.settings import parse

from tests.support.ports import free_port
from tests.support.waiting import until

QUERIES_A_SECOND = 200
VISITS_A_SECOND = 20
_PATIENCE = 3.0


class Page(BaseHTTPRequestHandler):
    """The same page for every host; its body names the host."""

    def do_GET(self) -> None:
        body = self.headers["Host"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Load:
    """Asks for everything that is reserved, and counts."""

    dns_port: int
    http_port: int
    names: dict[str, str] = field(default_factory=dict)
    """Name -> address."""
    services: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    """The first wrong answers."""
    address: str = "127.0.0.1"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        ended = threading.Event()
        threads = [
            threading.Thread(target=self._ask, args=(ended, "queries", QUERIES_A_SECOND, self._names, self.query)),
            threading.Thread(target=self._ask, args=(ended, "visits", VISITS_A_SECOND, self._services, self.visit)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def _names(self) -> list[Any]:
        return list(self.names.items())

    def _services(self) -> list[Any]:
        return list(self.services)

    def _ask(
        self,
        ended: threading.Event,
        what: str,
        a_second: float,
        items: Callable[[], list[Any]],
        one: Callable[[Any], str | None],
    ) -> None:
        due = time.monotonic()
        while not ended.is_set():
            for item in items():
                wrong = one(item)
                self.counts[what] += 1
                if wrong is None:
                    self.counts[f"{what} lost"] += 1
                elif wrong:
                    self.counts[f"{what} wrong"] += 1
                    if len(self.examples) < 20:
                        self.examples.append(f"{item}: {wrong}")
                due = max(due + 1 / a_second, time.monotonic() - 1)
                if ended.wait(max(0.0, due - time.monotonic())):
                    return

    def query(self, item: tuple[str, str]) -> str | None:
        """Empty: right; None: no answer."""
        name, address = item
        question = dns.message.make_query(name, "A")
        try:
            answer = dns.query.udp(question, self.address, port=self.dns_port, timeout=_PATIENCE)
        except (dns.exception.DNSException, OSError):
            return None
        found = [rdata.to_text() for rrset in answer.answer for rdata in rrset]
        if answer.rcode() != dns.rcode.NOERROR or found != [address]:
            return f"{dns.rcode.to_text(answer.rcode())} {found} instead of {address}"
        return ""

    def visit(self, host: str) -> str | None:
        visitor = http.client.HTTPConnection(self.address, self.http_port, timeout=_PATIENCE)
        try:
            visitor.request("GET", "/", headers={"Host": host})
            reply = visitor.getresponse()
            body = reply.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            visitor.close()
        return "" if (reply.status, body) == (200, host) else f"{reply.status} {body[:40]!r}"

    @property
    def wrong(self) -> int:
        return self.counts["queries wrong"] + self.counts["visits wrong"]

    def row(self) -> str:
        """How many of each were wrong, and lost."""
        found = []
        for what in ("queries", "visits"):
            asked, wrong, lost = (self.counts[f"{what}{kind}"] for kind in ("", " wrong", " lost"))
            found.append(f"{wrong:4d} of {asked:5d} {what} wrong, {lost} lost")
        return "; ".join(found)


class Node:
    """A gateway that serves ``load`` and has done so for long enough that its planes have a copy on disk."""

    def __init__(self, fleet: Any, directory: Path) -> None:
        self.fleet = fleet
        self.redis = fleet.redis_server
        self.directory = directory
        self.load = Load(fleet.ports["dns"], fleet.ports["http"])
        self.planes: dict[str, Any] = {}
        self.reconciler: Any = None
        self._web = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=self._web.serve_forever, daemon=True).start()
        self._coming: dict[str, str] = {}
        self.saved = directory / "saved"

    def close(self) -> None:
        self._web.shutdown()
        self._web.server_close()

    def start(self) -> None:
        """Everything runs, and redis was saved while it held half of it."""
        self.reconciler = self.fleet.start()
        before = self._subdomain("moved", "203.0.113.100")
        zone = self.fleet.reserve(DomainDelegate(domain="alice.example", node_id=self.fleet.node_id))
        self._deploy(before, zone, *self._some(["early0", "early1"]))
        self._save()
        self.fleet.delete(before)
        self.fleet.gone(before)
        self._deploy(self._subdomain("moved", "203.0.113.200"), *self._some(["late0", "late1", "late2"]))
        self.load.names["moved.gw1.example"] = "203.0.113.200"
        for plane in ("dns", "proxy"):
            self.start_plane(plane)
        for plane in ("dns", "proxy"):
            until(self._copy(plane).exists, f"copy of {plane}")
        self.served()

    def reserve(self, label: str) -> None:
        """A name and a service, which are served when this returns."""
        self._deploy(*self._some([label]))
        self.served()

    def _some(self, labels: list[str]) -> Iterator[int]:
        """A name and a service for each."""
        for label in labels:
            name, service = f"{label}.gw1.example", f"{label}.alice.example"
            address = f"203.0.113.{len(self.load.names) + len(self._coming) + 1}"
            yield self._subdomain(label, address)
            target = Proxy(domain=service, addr="127.0.0.1", port=self._web.server_port, node_id=self.fleet.node_id)
            yield self.fleet.reserve(target)
            self._coming[name] = address

    def _deploy(self, *numbers: int) -> None:
        for number in numbers:
            self.fleet.deployed(number)

    def served(self) -> None:
        """Wait until all that is reserved is served; what is new is asked for by the load from then on."""
        for name, address in {**self.load.names, **self._coming}.items():
            until(lambda: self.load.query((name, address)) == "", f"{name} is served")  # noqa: B023 - called at once
        for name, address in self._coming.items():
            service = name.replace(".gw1.", ".alice.")
            until(lambda: self.load.visit(service) == "", f"{service} is served")  # noqa: B023 - called at once
            self.load.names[name] = address
            self.load.services.append(service)
        self._coming.clear()

    def _subdomain(self, label: str, address: str) -> int:
        wanted = Subdomain(domain=f"{label}.gw1.example", ips=(address,), node_id=self.fleet.node_id)
        number: int = self.fleet.reserve(wanted)
        return number

    def start_plane(self, plane: str) -> None:
        self.planes[plane] = self.fleet.start(plane, ready=False)
        self.planes[plane].wait_ready()

    def restart_planes(self) -> None:
        for plane, process in list(self.planes.items()):
            process.stop()
            self.start_plane(plane)

    def stop_reconciler(self) -> None:
        self.reconciler.stop()

    def start_reconciler(self) -> None:
        self.reconciler = self.fleet.start()

    def held(self) -> dict[str, str]:
        """Why planes do not follow redis, as `tfgateway state` says; empty for one that does."""
        states = asyncio.run(plane_states(parse(self.fleet.config().encode())))
        return {one.plane: one.implausible for one in states}

    def holding(self) -> bool:
        """Whether both planes say that they do not follow redis."""
        return sum(map(bool, self.held().values())) == 2

    def following(self) -> bool:
        """Whether both planes say that they follow redis."""
        return list(self.held().values()) == ["", ""]

    def _copy(self, plane: str) -> Path:
        return self.directory / "state" / f"{plane}.snapshot"

    def _save(self) -> None:
        """As a backup does it, both ways."""
        with self.redis.client() as client:
            client.save()
            client.bgrewriteaof()
            until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the file is rewritten")
        shutil.copytree(self.redis.directory, self.saved)

    def exchange(self, source: Path | None, *options: str) -> None:
        """Redis dies, and comes up with another directory."""
        self.redis.kill()
        self.redis.forget()
        if source is not None:
            shutil.copytree(source, self.redis.directory)
        self.redis.start(*options)


def flush(node: Node) -> None:
    with node.redis.client() as client:
        client.flushall()


def empty(node: Node) -> None:
    node.exchange(None)


def older(node: Node) -> None:
    node.exchange(node.saved)


def cut(node: Node) -> None:
    """The append-only file lacks its end, as after a full disk."""
    node.redis.kill()
    file = max((node.redis.directory / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    raw = file.read_bytes()
    file.write_bytes(raw[: raw.rindex(b"late1.gw1")])
    node.redis.start("--aof-load-truncated", "yes")


def swap(node: Node) -> None:
    with node.redis.client() as client:
        client.swapdb(0, 1)


def restored(node: Node) -> None:
    """Only the RDB file comes back."""
    place = node.directory / "restored"
    place.mkdir()
    shutil.copy(node.saved / "dump.rdb", place)
    node.exchange(place, "--appendonly", "no")


def foreign(node: Node) -> None:
    """Another gateway's redis, as its reconciler has filled it."""
    node.exchange(node.directory / "foreign")


DISASTERS: dict[str, Callable[[Node], None]] = {
    "FLUSHALL": flush,
    "empty directory": empty,
    "older file": older,
    "cut file": cut,
    "SWAPDB": swap,
    "RDB restored": restored,
    "another's redis": foreign,
}


def run(node: Node, what: str, *, reconciler: bool, restart: bool) -> str:
    """One disaster under load, until everything is served and followed again; a row of the table of results.

    reconciler: whether it runs meanwhile. restart: whether the planes are stopped and started afterwards.
    """
    if what == "another's redis":
        prepare_foreign(node)
    if not reconciler:
        node.stop_reconciler()
    with node.load.running():
        time.sleep(1)
        DISASTERS[what](node)
        if restart:
            node.restart_planes()
        if not reconciler:
            until(node.holding, "both planes say that they do not follow redis")
            time.sleep(2)
            node.start_reconciler()
        node.reserve("new")
        until(node.following, "both planes follow redis")
        time.sleep(1)
    case = f"{what}, reconciler {'up' if reconciler else 'down'}{', planes restarted' if restart else ''}"
    return f"{case:50} {node.load.row()}"


def prepare_foreign(node: Node) -> None:
    """Data of a gateway with another identity, as its reconciler leaves them."""
    fleet = node.fleet
    spare = type(node.redis)(free_port(), node.directory / "foreign")
    spare.start()
    seed = node.directory / "other.seed"
    seedfile.create(seed, bytes(range(1, 33)))
    text = fleet.config().replace(str(fleet.seed), str(seed)).replace(node.redis.url, spare.url)
    ended = fleet.tfgateway.run("reconcile", "--once", config=text.replace("gw1.example", "gw2.example"))
    spare.stop()
    assert ended.returncode == 0, ended.stderr
