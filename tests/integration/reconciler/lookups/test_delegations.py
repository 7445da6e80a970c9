"""Lookups of NS records in parent zones, over real sockets, and what the running reconciler does with them (P-4)."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from tfgateway.explorer.models import DOMAIN_DELEGATE
from tfgateway.reconciler import loop
from tfgateway.reconciler.lookups import cache
from tfgateway.reconciler.lookups.delegations import Delegations, ParentZones
from tfgateway.redis_schema.keys import ZONE_OWNERS, service_key

from tests.integration.reconciler.scene import Gateway, Running
from tests.support.waiting import soon

ADDRESS = "127.0.0.1"
TREE = """
example. 60 IN SOA ns.example. admin.example. 1 2 3 4 5
example. 60 IN NS ns.example.
ns.example. 60 IN A 127.0.0.1
"""
"""What the resolver knows."""
PARENT = """
newcorp.example. 60 IN NS NS1.gw1.example.
newcorp.example. 60 IN NS ns2.newcorp.example.
elsewhere.example. 60 IN NS ns.elsewhere.example.
"""
"""Delegations in zone example, as its server refers to them."""


class Servers:
    """A resolver (UDP) and the server of zone example (TCP) on one port of the loopback."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: Counter[str] = Counter()
        self.code = dns.rcode.NOERROR
        self.silent = False

    def resolved(self, raw: bytes) -> bytes:
        query = dns.message.from_wire(raw)
        reply = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        for line in filter(None, TREE.splitlines()):
            found = rrset(line)
            if found.name == question.name and found.rdtype == question.rdtype:
                reply.answer.append(found)
        if not any(line.startswith(f"{question.name} ") for line in TREE.splitlines()):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()

    def referred(self, raw: bytes) -> bytes:
        query = dns.message.from_wire(raw)
        question = query.question[0]
        assert not query.flags & dns.flags.RD
        self.asked[question.name.to_text()] += 1
        reply = dns.message.make_response(query)
        reply.set_rcode(self.code)
        for line in filter(None, PARENT.splitlines()):
            found = rrset(line)
            if question.name.is_subdomain(found.name):
                place = reply.find_rrset(reply.authority, found.name, found.rdclass, found.rdtype, create=True)
                place.update(found)
        return reply.to_wire()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        raw = await reader.readexactly(size)
        if self.silent:
            self.asked["silence"] += 1
            await reader.read()
        else:
            answer = self.referred(raw)
            writer.write(struct.pack("!H", len(answer)) + answer)
        writer.close()


def rrset(line: str) -> dns.rrset.RRset:
    name, ttl, kind, record, data = line.split(" ", 4)
    return dns.rrset.from_text(name, int(ttl), kind, record, data)


class _Resolver(asyncio.DatagramProtocol):
    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(self._servers.resolved(data), addr)


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    tcp = await asyncio.start_server(made.connected, ADDRESS, 0)
    made.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Resolver(made), local_addr=(ADDRESS, made.port)
    )
    yield made
    udp.close()
    tcp.close()


@pytest.fixture
def zones(servers: Servers) -> ParentZones:
    return ParentZones(resolver_at(servers.port), servers.port, lambda _address: True)


def resolver_at(port: int) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [ADDRESS], port
    return resolver


async def test_the_parent_zone_itself_is_asked(zones: ParentZones) -> None:
    assert await zones.name_servers("newcorp.example") == {"ns1.gw1.example", "ns2.newcorp.example"}
    assert await zones.name_servers("elsewhere.example") == {"ns.elsewhere.example"}
    assert await zones.name_servers("nowhere.example") == frozenset()


async def test_a_delegation_above_is_none_of_the_domain(zones: ParentZones) -> None:
    assert await zones.name_servers("deep.newcorp.example") == frozenset()


async def test_no_address_inside_the_nodes_networks_is_asked(servers: Servers) -> None:
    zones = ParentZones(resolver_at(servers.port), servers.port)
    with pytest.raises(OSError, match=r"no name server of example\. answers"):
        await zones.name_servers("newcorp.example")
    assert not servers.asked


async def test_what_is_known_has_an_age(servers: Servers, zones: ParentZones) -> None:
    now = 0.0
    found = Delegations(["ns1.GW1.example."], zones.name_servers, lambda: now)
    await found.look_up(["newcorp.example", "elsewhere.example"])
    expected = {"newcorp.example": True, "elsewhere.example": False}
    now = 299.0
    assert found.known() == expected
    now = 301.0
    assert found.known() == {}
    await found.look_up(["newcorp.example"])
    assert found.known() == {"newcorp.example": True}
    assert servers.asked["newcorp.example."] == 2


async def test_what_cannot_be_looked_up_is_not_delegated_here(
    servers: Servers, zones: ParentZones, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Delegations(["ns1.gw1.example"], zones.name_servers)
    servers.code = dns.rcode.REFUSED
    await found.look_up(["newcorp.example", "a." * 200 + "example", "x..example", "nobody.knows"])
    assert set(found.known().values()) == {None}
    assert len(found.known()) == 4
    servers.code, servers.silent = dns.rcode.NOERROR, True
    monkeypatch.setattr(cache, "_LOOKUP_TIME", 0.2)
    await found.look_up(["newcorp.example"])
    assert servers.asked["silence"]
    assert found.known()["newcorp.example"] is None


async def test_without_names_of_its_own_a_gateway_asks_nobody(servers: Servers, zones: ParentZones) -> None:
    found = Delegations([], zones.name_servers)
    await found.look_up(["newcorp.example"])
    assert found.known() == {"newcorp.example": False}
    assert not servers.asked


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lookup(_domain: str) -> frozenset[str]:
        return frozenset()

    monkeypatch.setattr(cache, "_MOST_KNOWN", 3)
    found = Delegations(["ns1.gw1.example"], lookup)
    await found.look_up([f"d{number}.example" for number in range(5)])
    assert set(found.known()) == {"d2.example", "d3.example", "d4.example"}
    monkeypatch.setattr(cache, "_MOST_QUESTIONS", 2)
    await found.look_up([f"e{number}.example" for number in range(5)])
    assert set(found.known()) == {"d4.example", "e0.example", "e1.example"}


class DelegatedGateway(Gateway):
    """One whose reconciler finds the servers of the test in the place of the world's."""

    def __init__(self, directory: Any, redis_server: Any, rogue: Any) -> None:
        section = 'name_servers = ["ns1.gw1.example"]'
        super().__init__(directory, redis_server, rogue, seed=bytes(range(32)), section=section)
        self.proxy(1, "www.newcorp.example", tid=8)

    def delegate(self) -> None:
        self.rogue.listing.append(self.rogue.workload(2, DOMAIN_DELEGATE, domain="newcorp.example"))


@pytest.fixture
def gateway(
    tmp_path: Any, redis_server: Any, rogue: Any, zones: ParentZones, monkeypatch: pytest.MonkeyPatch
) -> DelegatedGateway:
    monkeypatch.setattr(loop, "ParentZones", lambda: zones)
    return DelegatedGateway(tmp_path, redis_server, rogue)


async def test_the_running_reconciler_looks_it_up_and_displaces_the_proxy(
    gateway: DelegatedGateway, servers: Servers
) -> None:
    async with Running(gateway.settings):
        await soon(lambda: gateway.message("1-1") == "")
        gateway.delegate()
        await soon(lambda: gateway.message("2-1") == "")
        await soon(lambda: "1-1" in gateway.rogue.deleted)
    assert "was delegated to this gateway, as its parent zone says" in (gateway.message("1-1") or "")
    assert gateway.redis.hget(ZONE_OWNERS, "newcorp.example") is not None
    assert gateway.redis.get(service_key("www.newcorp.example")) is None
    assert servers.asked == {"newcorp.example.": 1}


async def test_a_single_pass_looks_it_up_before_it_decides(gateway: DelegatedGateway, servers: Servers) -> None:
    async with loop.opened(gateway.settings) as reconciler:
        await reconciler.once()
    gateway.delegate()
    async with loop.opened(gateway.settings) as reconciler:
        plan = await reconciler.preview()
        assert [(step.id, str(step.action)) for step in plan.steps] == [("1-1", "refuse"), ("2-1", "deploy")]
        await reconciler.once()
    assert gateway.message("2-1") == ""
    assert gateway.redis.get(service_key("www.newcorp.example")) is None
