"""Peers of the interface: wanted, present, and the ``wg`` commands that lead from one to the other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from tfgateway.errors import ParseError, SchemaError
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.redis_schema.peers import Peer, decode_peer
from tfgateway.telemetry.text import printable
from tfgateway.wireguard_key import encode_key

KEEPALIVE = 25
"""Seconds between two packets to a silent peer, so that what stands between us and it keeps the way open."""

_OFF = "off"
_AT_ONCE = 100  # peers of one command


@dataclass(frozen=True, slots=True)
class Present:
    """A peer as the interface has it."""

    allowed_ips: frozenset[str]
    """With prefix length."""
    keepalive: int
    """Seconds; 0: off."""
    handshake: int = 0
    """Unix seconds of the latest one; 0: none yet."""


@dataclass(frozen=True, slots=True)
class Device:
    """A WireGuard interface. Its private key is left where it is (C-3)."""

    public_key: str
    """Base64; empty: it has no key yet."""
    listen_port: int
    peers: Mapping[str, Present]
    """By public key, base64."""


def parse_dump(raw: bytes) -> Device:
    """The output of ``wg show INTERFACE dump``. Errors: ``ParseError``, without any of the text: it holds a secret."""
    try:
        first, *rest = raw.decode("ascii").splitlines()
        _private, public, port, _mark = first.split("\t")
        peers = dict(map(_peer, rest))
        return Device("" if public == "(none)" else public, int(port), peers)
    except ValueError:
        raise ParseError("wg's dump does not have the form that wg(8) describes") from None


def _peer(line: str) -> tuple[str, Present]:
    key, _shared, _endpoint, allowed, handshake, _received, _sent, keepalive = line.split("\t")
    ips = frozenset() if allowed == "(none)" else frozenset(allowed.split(","))
    return key, Present(ips, 0 if keepalive == _OFF else int(keepalive), int(handshake))


def wanted_peers(fields: Mapping[bytes, bytes], pool: AddressPool) -> tuple[dict[str, str], list[str]]:
    """What ``tfgateway:peers`` asks for: address by public key (base64); and what of it cannot be, one line each."""
    peers: list[Peer] = []
    problems: list[str] = []
    for name, raw in fields.items():
        try:
            peers.append(decode_peer(name, raw))
        except SchemaError as error:
            problems.append(f"user {printable(name)}: {error}")
    wanted: dict[str, str] = {}
    own = encode_key(pool.public_key)
    for peer in sorted(peers, key=lambda peer: int(peer.tid)):
        key = encode_key(peer.public_key)
        if key == own:
            problems.append(f"user {peer.tid}: the key is the gateway's own")
        elif key in wanted:
            problems.append(f"user {peer.tid}: the key is another user's")
        else:
            wanted[key] = f"{pool.address_of(peer.tid)}/128"
    return wanted, problems


def missing(wanted: Mapping[str, str], present: Mapping[str, Present]) -> dict[str, str]:
    """Peers of an old list that the interface lacks; what the interface has is newer, addresses included."""
    taken = {address for peer in present.values() for address in peer.allowed_ips}
    return {key: address for key, address in wanted.items() if key not in present and address not in taken}


def commands(interface: str, wanted: Mapping[str, str], present: Mapping[str, Present]) -> list[tuple[str, ...]]:
    """Arguments of ``wg``, one tuple a command; none when everything is as it should be.

    Removals come first: an address belongs to one peer at a time, and moves to the one that gets it last.
    """
    removals = [("peer", key, "remove") for key in present if key not in wanted]
    changes = [
        ("peer", key, "persistent-keepalive", str(KEEPALIVE), "allowed-ips", address)
        for key, address in wanted.items()
        if key not in present or (present[key].allowed_ips, present[key].keepalive) != (frozenset({address}), KEEPALIVE)
    ]
    return [
        ("set", interface, *(word for words in batch for word in words))
        for batch in [*_batches(removals), *_batches(changes)]
    ]


def _batches(items: Sequence[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    remaining = iter(items)
    while batch := list(islice(remaining, _AT_ONCE)):
        yield batch
