"""Messages that take the reconciler to answer: updates, and whatever is signed with a user's key. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import Final

import dns.name
import dns.tsig

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.lookup import Answer
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import Exchange, Reply, Transport, check, write
from tfgateway.dns.answer.transfer import Allowed
from tfgateway.dns.wire import codes, names, tsig
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.query import HEADER, Query, read
from tfgateway.errors import ParseError

_SUFFIX: Final = b"\x09tfgateway\0"
"""How the names of all users' keys end."""
_KEY: Final = re.compile(rb"[\x01-\x13][0-9]{1,19}[\x2b\x2c][1-9a-z]{43,44}\x09tfgateway\x00")
"""Tid and node id."""
_OPCODE: Final = 0xF8
"""In the third byte of a message: response and opcode."""
_UPDATE: Final = codes.OPCODE_UPDATE << 3
_ALGORITHMS: Final = ("hmac-sha256", "hmac-sha512")
_EVERYWHERE: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def needs_reconciler(message: bytes) -> bool:
    """Whether a message has to be answered here. Quick; of what is no message at all, it may say either."""
    if len(message) < HEADER.size or message[2] & 0x80:
        return False
    return message[2] & _OPCODE == _UPDATE or (message[11] > 0 and _SUFFIX in message.lower())


def user_key(message: bytes, query: Query) -> Name | None:
    """The name of the user's key that a message says it is signed with; None: it says no such thing."""
    if query.tsig_at is None or query.rcode == codes.FORMERR:
        return None
    try:
        name = names.fold(message[query.tsig_at : names.read(message, query.tsig_at)])
    except ParseError:
        return None
    return name if _KEY.fullmatch(name) else None


def with_key(options: ServerOptions, message: bytes, at: int, name: Name, secret: bytes) -> ServerOptions:
    """The options with a user's key, for the message whose TSIG record is at ``at``."""
    try:
        algorithm = tsig.algorithm(message, at)
    except ParseError:
        return options
    if algorithm not in _ALGORITHMS:
        return options
    key = dns.tsig.Key(dns.name.from_wire(name, 0)[0], secret, algorithm)
    return replace(options, keys={**options.keys, name: key})


def is_signed(options: ServerOptions, message: bytes, at: int, now: int) -> bool:
    """Whether the TSIG record at ``at`` verifies. now: Unix seconds."""
    try:
        return tsig.verify(message, at, options.keys, now).rcode == codes.NOERROR
    except ParseError:
        return False


def with_transfer(options: ServerOptions, name: Name) -> ServerOptions:
    """The options with which a key may transfer zones from anywhere."""
    return replace(options, transfers=[*options.transfers, *(Allowed(network, name) for network in _EVERYWHERE)])


class SignedUpdate:
    """An UPDATE message, from its signature to its reply."""

    def __init__(
        self,
        message: bytes,
        client: bytes,
        now: int,
        options: ServerOptions,
        transport: Transport,
        counts: QueryCounters,
    ) -> None:
        """options: with the sender's key. Errors: ``Unanswerable``."""
        self._exchange = exchange = Exchange(read(message), client, now, options, transport)
        self._counts = counts
        check(exchange, message, counts)
        if exchange.query.rcode == codes.NOERROR and exchange.session is None:
            exchange.query.rcode = codes.REFUSED  # RFC 3007 §3: nobody may change anything without a key

    @property
    def mac(self) -> bytes | None:
        """Its signature, if it is to be carried out; None: ``reply`` says why not."""
        session = self._exchange.session
        return session.mac if session is not None and self._exchange.query.rcode == codes.NOERROR else None

    def reply(self, rcode: int = codes.NOERROR) -> Reply:
        """The reply. rcode: of what became of it, when it was to be carried out."""
        exchange = self._exchange
        answer = Answer(exchange.query.rcode or rcode, authoritative=False)
        self._counts.updates[codes.RCODE_NAMES.get(answer.rcode, "OTHER")] += 1
        return write(exchange, answer)
