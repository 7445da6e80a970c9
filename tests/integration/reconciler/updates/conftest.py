"""A fleet with a tenant who signs DNS updates."""

from __future__ import annotations

import base64
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest
from tfgateway.explorer import user
from tfgateway.explorer.models import DomainDelegate, Subdomain
from tfgateway.identity import seedfile

from tests.support.waiting import until

LIMIT = 20.0


class Tenant:
    """Alice, who has a delegated domain and a subdomain, and her DNS client."""

    def __init__(self, fleet: Any, name: str = "alice") -> None:
        self.fleet = fleet
        self.account = fleet.accounts.get(name) or fleet.register(name)
        self.key_name, self.secret = user.dns_key(self.account, fleet.node_id)
        self.port = fleet.ports["dns"]

    @property
    def seed(self) -> Path:
        """Their seed file."""
        path = Path(self.fleet.seed).with_name(f"{self.account.tid}.seed")
        if not path.exists():
            seedfile.create(path, self.account.identity.seed, self.account.tid)
        return path

    def reserve(self, *arguments: str) -> str:
        """What a command of ``tfgateway reserve`` prints."""
        command = ["reserve", "--explorer", self.fleet.url, "--seed", str(self.seed), *arguments]
        ended = self.fleet.tfgateway.run(*command, config="")
        assert ended.returncode == 0, ended.stderr
        return str(ended.stdout)

    def update(self, zone: str, **options: Any) -> dns.update.UpdateMessage:
        key = dns.tsig.Key(self.key_name, self.secret, options.pop("algorithm", "hmac-sha256"))
        return dns.update.UpdateMessage(zone, keyring=key, **options)

    def send(self, message: dns.message.Message, *, tcp: bool = False) -> str:
        """The response code; the response has to be signed with the same key."""
        query = dns.query.tcp if tcp else dns.query.udp
        return dns.rcode.to_text(query(message, "127.0.0.1", timeout=LIMIT, port=self.port).rcode())

    def add(self, name: str, kind: str, text: str, zone: str = "alice.example", ttl: int = 60, **options: Any) -> str:
        message = self.update(zone, **options)
        message.add(dns.name.from_text(name), ttl, kind, text)
        return self.send(message)

    def code(self, message: bytes) -> int:
        """The response code to a datagram."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(LIMIT)
            sock.sendto(message, ("127.0.0.1", self.port))
            return sock.recv(4096)[3] & 15

    def taken(self, message: dns.message.Message) -> None:
        """Send it until it is carried out."""
        until(lambda: self.code(message.to_wire()) == dns.rcode.NOERROR, "it is taken")

    def nsupdate(self, *lines: str, tcp: bool = False) -> subprocess.CompletedProcess[str]:
        secret = base64.b64encode(self.secret).decode()
        script = [f"server 127.0.0.1 {self.port}", f"key hmac-sha256:{self.key_name} {secret}", *lines, "send", ""]
        command = ["nsupdate", *(["-v"] if tcp else [])]
        return subprocess.run(command, input="\n".join(script), capture_output=True, text=True, timeout=60, check=False)

    def answers(self, name: str, kind: str) -> list[str]:
        reply = dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", timeout=LIMIT, port=self.port)
        return sorted(item.to_text() for rrset in reply.answer for item in rrset)

    def sees(self, name: str, kind: str, *texts: str) -> None:
        until(lambda: self.answers(name, kind) == sorted(texts), f"{name} {kind} is {texts}")


@pytest.fixture
def planes(fleet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """The fleet with a reconciler and a DNS plane; call it for another reconciler after the first has ended."""
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    fleet.reconciler = fleet.start()
    fleet.registered()
    fleet.dns = fleet.start("dns")
    yield lambda: fleet.start()


@pytest.fixture
def alice(fleet: Any, planes: object) -> Tenant:
    zone = DomainDelegate(node_id=fleet.node_id, domain="alice.example")
    www = Subdomain(node_id=fleet.node_id, domain="www.gw1.example", ips=("203.0.113.5",))
    numbers = [fleet.reserve(zone), fleet.reserve(www)]
    for number in numbers:
        fleet.deployed(number)
    tenant = Tenant(fleet)
    tenant.numbers = numbers
    return tenant
