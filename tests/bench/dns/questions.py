"""What is asked: the zone that all servers have, and the kinds of queries that it is asked with."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tfgateway.dns.wire.cookies import Cookies

from tests.bench.dns.load import Query

ZONE = "bench.example."
SECRET = bytes(range(16))
"""Of the server cookies: one for all servers, as in a fleet (RFC 9018)."""
PREPARED = 16_384
"""Queries of a kind; each comes from a network of its own."""
PREPARED_FOR_MANY = 131_072
"""Queries to a zone of a million names: more than any server keeps answers."""
_NETWORKS = 65_000

_ZONE = b"\x05bench\x07example\0"
_HEADER = struct.Struct("!HHHHHH")
_A = b"\0\1\0\1"
_OPT = bytes.fromhex("00002904d0000000000000")


def host(number: int) -> str:
    """The label of one of the zone's names."""
    return f"host{number}"


def address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def field(ip: str) -> str:
    """A name with this address in the redis layout, as gateways write it."""
    return f'{{"a":[{{"ip":"{ip}","ttl":300}}]}}'


def zone_file(count: int) -> Iterator[str]:
    """The zone in master file format, as the gateway's own synthesis has it."""
    yield f"$ORIGIN {ZONE}\n$TTL 300\n"
    yield "@ SOA ns1.gateway.example. hostmaster 1 86400 7200 3600000 300\n@ NS ns1.gateway.example.\n"
    for number in range(count):
        yield f"{host(number)} A {address(number)}\n"


@dataclass(frozen=True)
class Kind:
    """A kind of queries."""

    name: str
    make: Callable[[random.Random, int, bytes], bytes]
    """(chance, names in the zone, source address) -> message."""
    reply: bytes
    """Flags and counts of the reply."""

    def queries(self, names: int, count: int = PREPARED) -> list[Query]:
        chance = random.Random(1)
        sources = [struct.pack("!BHB", 127, 256 + number % _NETWORKS, 1 + number % 250) for number in range(count)]
        return [Query(self.make(chance, names, source), source) for source in sources]


def _message(label: str, opt: bytes = b"") -> bytes:
    name = bytes([len(label)]) + label.encode() + _ZONE
    return _HEADER.pack(0, 0, 1, 0, 0, bool(opt)) + name + _A + opt


def _known(chance: random.Random, names: int) -> str:
    return host(chance.randrange(names))


def _hot(chance: random.Random, names: int, _source: bytes) -> bytes:
    return _message(_known(chance, names))


def _random_case(chance: random.Random, names: int, _source: bytes) -> bytes:
    message = bytearray(_message(_known(chance, names)))
    for at in range(13, len(message) - 5):
        if chr(message[at]).isalpha() and chance.random() < 0.5:
            message[at] ^= 0x20
    return bytes(message)


def _edns(chance: random.Random, names: int, _source: bytes) -> bytes:
    return _message(_known(chance, names), _OPT)


def with_cookie(label: str, client: bytes, source: bytes) -> bytes:
    """As a client asks that got its cookie with an earlier reply. client: its part of the cookie."""
    option = Cookies([SECRET]).check(client, source, int(time.time())).reply
    return _message(label, _OPT[:-2] + struct.pack("!HHH", 28, 10, 24) + option)


def _cookies(chance: random.Random, names: int, source: bytes) -> bytes:
    return with_cookie(_known(chance, names), chance.randbytes(8), source)


def _nxdomain(chance: random.Random, _names: int, _source: bytes) -> bytes:
    return _message(f"no{chance.randrange(10**9)}")


_FOUND = struct.pack("!HHHHH", 0x8400, 1, 1, 0, 0)
_FOUND_EDNS = struct.pack("!HHHHH", 0x8400, 1, 1, 0, 1)
_MISSING = struct.pack("!HHHHH", 0x8403, 1, 0, 1, 0)

KINDS = (
    Kind("hot names", _hot, _FOUND),
    Kind("random case", _random_case, _FOUND),
    Kind("EDNS", _edns, _FOUND_EDNS),
    Kind("EDNS with cookies", _cookies, _FOUND_EDNS),
    Kind("NXDOMAIN flood", _nxdomain, _MISSING),
)
