"""Makes the reply to a query, from bytes to bytes, for UDP and TCP alike. Pure."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tfgateway.dns.answer import rate_limit, transfer
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.lookup import Answer, Section, lookup
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.wire import codes, edns, names, tsig
from tfgateway.dns.wire.cookies import Cookies, is_wellformed
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.query import HEADER, Query, Unanswerable, read
from tfgateway.dns.wire.rrsets import TARGET_AT, RRset, chaos_text
from tfgateway.dns.zones.serial import is_newer
from tfgateway.dns.zones.zone import Zone
from tfgateway.dns.zones.zones import Zones
from tfgateway.errors import ParseError

Transport = Literal["udp", "tcp"]

_RESPONSE: Final = 0x8000
_TRUNCATED: Final = 0x0200
_KEPT: Final = 0x7900
"""Opcode and RD are repeated; AD and CD are cleared (RFC 4035 §3.1.6), RA is never set (D-11)."""
_MAX_TCP: Final = 65535
_POINTER: Final = 0xC000
_MAX_POINTER: Final = 0x3FFF
_RCODE_BITS: Final = 0xF
_KEEPALIVE_UNIT: Final = 0.1
"""Seconds (RFC 7828 §3.1)."""


class Reply(NamedTuple):
    """A reply, and what rate limiting has to know of it."""

    message: bytes
    opt_size: int
    """Bytes of the OPT record at the end of the message; 0: none. (After it, only a signature may follow.)"""
    bucket: int
    """For ``RateLimiter.check``."""
    proven: bool
    """Does the client surely have this address (a valid cookie, a signature)? Then it is not limited (RFC 7873 §5.2.3).
    """
    rest: Generator[bytes, int, None] | None = None
    """Of a zone transfer, over TCP only: further messages, each made when the current Unix time is sent to it."""


@dataclass(slots=True)
class Exchange:
    """A query and all that its reply depends on but for the zones."""

    query: Query
    client: bytes
    now: int
    service: ServerOptions
    transport: Transport
    cookie: bytes = b""
    """The COOKIE option of the reply; empty: none."""
    session: tsig.TsigContext | None = None
    proven: bool = False


def respond(
    message: bytes,
    client: bytes,
    now: int,
    zones: Zones,
    service: ServerOptions,
    transport: Transport,
    counts: QueryCounters,
) -> Reply | None:
    """The reply to ``message``; None: it gets none. What happened is added to ``counts``.

    client: packed address; now: Unix seconds. What replies say depends on them in COOKIE options, signatures and zone
    transfers alone.
    """
    try:
        query = read(message)
    except Unanswerable as error:
        counts.dropped(transport, error.reason)
        return None
    exchange = Exchange(query, client, now, service, transport)
    check(exchange, message, counts)
    if query.rcode == codes.NOERROR and query.opcode == codes.OPCODE_UPDATE:
        query.rcode = codes.NOTIMP
    if query.rcode == codes.NOERROR and not query.question and not exchange.cookie:
        query.rcode = codes.FORMERR
    if query.rcode != codes.NOERROR:
        answer = Answer(query.rcode, authoritative=False)
        if query.rcode == codes.NOTIMP:
            answer.ede = codes.EDE_NOT_SUPPORTED
    elif service.cookies_required and transport == "udp" and not exchange.proven:
        # RFC 7873 §5.2.3: fetch a cookie; clients without cookies prove their address over TCP.
        cookie = exchange.cookie
        answer = Answer(codes.BADCOOKIE if cookie else codes.NOERROR, authoritative=False, truncated=not cookie)
    else:
        answer = _answer(exchange, zones, counts)
    counts.answered(transport, query.type, answer.rcode)
    return write(exchange, answer)


def servfail(message: bytes, service: ServerOptions, transport: Transport, counts: QueryCounters) -> Reply | None:
    """The reply to a query that ``respond`` failed on; None: not even that."""
    try:
        query = read(message)
    except Unanswerable:
        return None
    counts.answered(transport, query.type, codes.SERVFAIL)
    return write(Exchange(query, b"", 0, service, transport), Answer(codes.SERVFAIL, authoritative=False))


def truncated(reply: Reply) -> bytes:
    """The reply that replaces a limited one, so that the client asks again over TCP. Errors are small and are sent."""
    message = reply.message
    if reply.bucket == rate_limit.bucket(rate_limit.ERROR, b""):
        return message
    end = names.read(message, HEADER.size) + 4
    flags = int.from_bytes(message[2:4], "big") & ~(codes.AUTHORITATIVE | _RCODE_BITS) | _TRUNCATED
    header = HEADER.pack(int.from_bytes(message[:2], "big"), flags, 1, 0, 0, bool(reply.opt_size))
    return header + message[HEADER.size : end] + message[len(message) - reply.opt_size :]


def check(exchange: Exchange, message: bytes, counts: QueryCounters) -> None:
    """Check cookie and signature of a query; what is wrong with them is its ``rcode``."""
    query, cookies = exchange.query, exchange.service.cookies
    if query.edns is not None and query.edns.cookie is not None and cookies is not None:
        _check_cookie(exchange, query.edns.cookie, cookies, counts)
    if query.tsig_at is not None and query.rcode != codes.FORMERR:
        _check_signature(exchange, message, query.tsig_at, counts)


def _check_cookie(exchange: Exchange, option: bytes, known: Cookies, counts: QueryCounters) -> None:
    """Check the cookie of a query; a valid one proves the client's address."""
    if not is_wellformed(option):
        counts.cookies["malformed"] += 1
        exchange.query.rcode = exchange.query.rcode or codes.FORMERR
        return
    checked = known.check(option, exchange.client, exchange.now)
    counts.cookies[checked.outcome] += 1
    exchange.cookie = edns.option(codes.OPTION_COOKIE, checked.reply)
    exchange.proven = checked.outcome == "valid"


def _check_signature(exchange: Exchange, message: bytes, at: int, counts: QueryCounters) -> None:
    """Verify the TSIG record of a query."""
    try:
        session = tsig.verify(message, at, exchange.service.keys, exchange.now)
    except ParseError:
        exchange.query.rcode = codes.FORMERR
        return
    counts.tsig[session.outcome] += 1
    exchange.session = session
    exchange.query.rcode = exchange.query.rcode or session.rcode
    exchange.proven = exchange.proven or session.rcode == codes.NOERROR


def _answer(exchange: Exchange, zones: Zones, counts: QueryCounters) -> Answer:
    """The reply to a query that is well-formed."""
    query, chaos = exchange.query, exchange.service.chaos
    if not query.question:
        return Answer(authoritative=False)  # it asks for nothing but a cookie (RFC 7873 §5.4)
    if query.rrclass == codes.CLASS_CH and query.name in chaos and query.type in (codes.TXT, codes.ANY):
        return Answer(answer=[(query.name, chaos_text(chaos[query.name]))], about=query.name)
    if query.rrclass != codes.CLASS_IN:
        return Answer(codes.REFUSED, authoritative=False, ede=codes.EDE_NOT_AUTHORITATIVE)
    if query.type in (codes.AXFR, codes.IXFR):
        return _answer_transfer(exchange, zones, counts)
    if zones.expired:
        return Answer(codes.SERVFAIL, authoritative=False, ede=codes.EDE_NOT_READY)
    answer = lookup(zones, query.name, query.type)
    if zones.stale and answer.rcode != codes.REFUSED:
        answer.ede = codes.EDE_STALE_ANSWER
    return answer


def _answer_transfer(exchange: Exchange, zones: Zones, counts: QueryCounters) -> Answer:
    """The reply to AXFR and IXFR. No history is kept: changes are the whole zone again (RFC 1995 §4)."""
    query = exchange.query
    key = names.NONE if exchange.session is None else exchange.session.key
    over_udp = exchange.transport == "udp"
    admitted = any(allowed.admits(exchange.client, key) for allowed in exchange.service.transfers)
    if not admitted or (over_udp and query.type == codes.AXFR):  # D-10; RFC 5936 §4.2
        counts.transfers["refused"] += 1
        return Answer(codes.REFUSED, authoritative=False, ede=codes.EDE_PROHIBITED)
    if zones.expired:
        return Answer(codes.SERVFAIL, authoritative=False, ede=codes.EDE_NOT_READY)
    zone = zones.get(query.name)
    if zone is None:
        return Answer(codes.NOTAUTH, authoritative=False, ede=codes.EDE_NOT_AUTHORITATIVE)
    if query.type == codes.IXFR:
        if query.serial is None:
            return Answer(codes.FORMERR, authoritative=False)
        if over_udp or not is_newer(zone.serial, query.serial):
            counts.transfers["current"] += 1
            return Answer(answer=[(zone.name, zone.soa)], about=zone.name)
    counts.transfers["full"] += 1
    return Answer(about=zone.name, transfer=zone)


def _kind(answer: Answer) -> int:
    """The kind of a response for rate limiting."""
    if answer.rcode == codes.NXDOMAIN:
        return rate_limit.NXDOMAIN
    if answer.rcode != codes.NOERROR or not answer.about:
        return rate_limit.ERROR
    if answer.answer:
        return rate_limit.POSITIVE
    return rate_limit.NODATA if answer.authoritative else rate_limit.REFERRAL


def _opt(exchange: Exchange, answer: Answer) -> bytes:
    """The OPT record of the reply; empty: none."""
    query, service = exchange.query.edns, exchange.service
    if query is None:
        return b""
    options = exchange.cookie
    if query.nsid and service.nsid:
        options += edns.option(codes.OPTION_NSID, service.nsid)
    if query.keepalive and exchange.transport == "tcp":  # over UDP it is ignored (RFC 7828 §3.2.1)
        units = min(int(service.tcp_idle / _KEEPALIVE_UNIT), 0xFFFF)
        options += edns.option(codes.OPTION_KEEPALIVE, units.to_bytes(2, "big"))
    if answer.ede is not None:
        options += edns.option(codes.OPTION_EDE, answer.ede.to_bytes(2, "big"))
    return edns.reply_record(query, answer.rcode, service.udp_size, options)


def write(exchange: Exchange, answer: Answer) -> Reply:
    """The reply with this answer."""
    query, session = exchange.query, exchange.session
    opt = _opt(exchange, answer)
    bucket = rate_limit.bucket(_kind(answer), answer.about)
    flags = _RESPONSE | query.flags & _KEPT | answer.rcode & _RCODE_BITS
    if answer.authoritative:
        flags |= codes.AUTHORITATIVE
    if answer.transfer is not None:
        messages = _transfer(exchange, answer.transfer, flags, opt)
        return Reply(next(messages), len(opt), bucket, exchange.proven, messages)
    limit = _MAX_TCP
    if exchange.transport == "udp":
        limit = min(query.edns.udp_size, exchange.service.udp_size) if query.edns else edns.MIN_UDP
    limit -= len(opt) + (session.size if session else 0)
    body = _Body(query)
    written = [body.add(section) for section in (answer.answer, answer.authority, answer.glue)]
    optional = 0
    if body.size > limit or answer.truncated:
        flags |= _TRUNCATED
        body = _Body(query)
        written = [0, 0, 0]
    else:
        optional = body.add_what_fits(answer.additional, limit)
    answers, authorities, glue = written
    additionals = glue + optional + bool(opt)
    header = HEADER.pack(query.id, flags, bool(query.question), answers, authorities, additionals)
    message = b"".join([header, *body.parts, opt])
    if session:
        message = session.sign(message, exchange.now)
    return Reply(message, len(opt), bucket, exchange.proven)


def _transfer(exchange: Exchange, zone: Zone, flags: int, opt: bytes) -> Generator[bytes, int, None]:
    """The messages of a zone; the first one has the OPT record (RFC 5936 §2.2.5)."""
    session, now = exchange.session, exchange.now
    for count, body in transfer.bodies(exchange.query, zone, HEADER.size + len(opt)):
        message = HEADER.pack(exchange.query.id, flags, 1, count, 0, bool(opt)) + body + opt
        opt = b""
        now = yield session.sign(message, now) if session else message


class _Body:
    """The sections of a message. Owners are pointers to names that stand before them (RFC 1035 §4.1.4).

    The first owner thereby points to the question and has its case (RFC 4343 §4.1).
    """

    __slots__ = ("_known", "parts", "size")

    def __init__(self, query: Query) -> None:
        self.parts = [query.question]
        self.size = HEADER.size + len(query.question)
        """Bytes of the message so far, header included."""
        self._known = {query.name: HEADER.size} if query.question else {}
        """Names that stand uncompressed in the message -> where."""

    def add(self, section: Section) -> int:
        """Append all of a section; the number of its records."""
        count = 0
        for owner, rrset in section:
            start = self._start(owner)
            if rrset.targets:
                self._note_targets(len(start), rrset)
            self._append(start + start.join(rrset.bodies))
            count += len(rrset.bodies)
        return count

    def add_what_fits(self, section: Section, limit: int) -> int:
        """Append the RRsets with which the message stays within ``limit`` bytes; the number of records."""
        count = 0
        for owner, rrset in section:
            start = self._start(owner)
            records = start + start.join(rrset.bodies)
            if self.size + len(records) <= limit:
                self._append(records)
                count += len(rrset.bodies)
        return count

    def _append(self, records: bytes) -> None:
        self.parts.append(records)
        self.size += len(records)

    def _start(self, owner: Name) -> bytes:
        """The owner of each record: a pointer if one can reach the name."""
        at = self._known.get(owner)
        if at is None:
            for name, where in self._known.items():
                if names.is_within(name, owner):
                    at = where + len(name) - len(owner)
                    break
        if at is None or at > _MAX_POINTER:
            return owner
        return (_POINTER | at).to_bytes(2, "big")

    def _note_targets(self, start: int, rrset: RRset) -> None:
        """Remember the positions of the names in an RRset that is appended next."""
        offset = start + TARGET_AT[rrset.type]
        at = self.size
        for body, target in zip(rrset.bodies, rrset.targets, strict=True):
            self._known.setdefault(target, at + offset)
            at += start + len(body)
