"""Zones written as the redis layout has them, asked through the same function that the sockets use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import Reply, respond
from tfgateway.dns.wire import names
from tfgateway.dns.wire.rrsets import ZonePolicy
from tfgateway.dns.zones import field_decoder
from tfgateway.dns.zones.zone import Zone
from tfgateway.dns.zones.zones import Zones

SERVERS = ("ns1.gateway.example.", "ns2.gateway.example.")
CLIENT = bytes([192, 0, 2, 1])
NOW = 1_600_000_000
Fields = Mapping[str, object]
"""Field -> record JSON as an object, or the raw bytes."""


class Gateway:
    """A table of zones and a way to ask it."""

    def __init__(self, zones: Mapping[str, Fields], ttl: int = 300, service: ServerOptions | None = None) -> None:
        self.policy = ZonePolicy(ttl, tuple(names.from_text(host.encode()) for host in SERVERS))
        self.table = Zones()
        self.counts = QueryCounters()
        self.service = service or ServerOptions()
        for key, fields in zones.items():
            self.table.put(self.zone(key, fields))

    def zone(self, key: str, fields: Fields, serial: int = 1) -> Zone:
        raw = {
            field.encode(): value if isinstance(value, bytes) else json.dumps(value).encode()
            for field, value in fields.items()
        }
        name = names.from_key(key.encode())
        zone = Zone(name, field_decoder.read_apex(raw.pop(b"@", None), name, self.policy)[0])
        zone.apply(
            (names.from_field(field, name), field_decoder.read(value, self.policy)[0]) for field, value in raw.items()
        )
        zone.stamp(serial)
        return zone

    def exchange(self, message: bytes, transport: str = "udp") -> bytes | None:
        reply = self.reply(message, transport)
        return None if reply is None else reply.message

    def reply(self, message: bytes, transport: str = "udp", client: bytes = CLIENT, now: int = NOW) -> Reply | None:
        return respond(message, client, now, self.table, self.service, transport, self.counts)

    def ask(self, name: str, kind: str | int = "A", transport: str = "udp", **options: object) -> dns.message.Message:
        """The reply to one question, parsed. options: of dns.message.make_query."""
        query = dns.message.make_query(name, kind, **options)
        query.flags &= ~dns.flags.RD
        wire = self.exchange(query.to_wire(), transport)
        assert wire is not None
        reply = dns.message.from_wire(wire)
        assert query.is_response(reply)
        return reply

    @staticmethod
    def lines(section: list[object]) -> list[str]:
        """A section of a reply as sorted lines of master file text."""
        return sorted(line for rrset in section for line in str(rrset).splitlines())


@pytest.fixture(scope="session")
def gateway() -> Callable[..., Gateway]:
    """Call it with ``{zone key: {field: records}}``."""
    return Gateway
