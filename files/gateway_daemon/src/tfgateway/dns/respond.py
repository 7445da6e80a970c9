"""Bytes of a query to bytes of its reply, for UDP and TCP alike. Pure."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from tfgateway.dns import codes, cookies, edns, names, rrl
from tfgateway.dns.counts import Counts
from tfgateway.dns.lookup import Answer, Section, lookup
from tfgateway.dns.query import HEADER, Query, Unanswerable, read
from tfgateway.dns.rrsets import TARGET_AT, RRset, chaos_text
from tfgateway.dns.service import Service
from tfgateway.dns.table import DnsTable

Transport = Literal["udp", "tcp"]

_RESPONSE: Final = 0x8000
_AUTHORITATIVE: Final = 0x0400
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
    """What is sent, and what decides whether it may be."""

    message: bytes
    opt_size: int
    """Bytes of the OPT record at the end of the message; 0: none."""
    account: int
    """For ``RateLimiter.check``."""
    proven: bool
    """Does the client surely have this address (a valid cookie)? Then it is not limited (RFC 7873 §5.2.3)."""


def respond(
    message: bytes, client: bytes, now: int, table: DnsTable, service: Service, transport: Transport, counts: Counts
) -> Reply | None:
    """The reply to ``message``; None: it gets none. What happened is added to ``counts``.

    client: packed address; now: Unix seconds. The COOKIE option alone depends on these.
    """
    try:
        query = read(message)
    except Unanswerable as error:
        counts.dropped(transport, error.reason)
        return None
    cookie, proven = _check_cookie(query, client, now, service, counts)
    if query.rcode == codes.NOERROR and not query.question and not cookie:
        query.rcode = codes.FORMERR
    if query.rcode != codes.NOERROR:
        answer = Answer(query.rcode, authoritative=False)
        if query.rcode == codes.NOTIMP:
            answer.ede = codes.EDE_NOT_SUPPORTED
    elif service.cookies_required and transport == "udp" and not proven:
        # RFC 7873 §5.2.3: fetch a cookie; who does not know how proves its address over TCP.
        answer = Answer(codes.BADCOOKIE if cookie else codes.NOERROR, authoritative=False, truncated=not cookie)
    else:
        answer = _answer(query, table, service)
    counts.answered(transport, query.type, answer.rcode)
    written, opt_size = _write(query, answer, service, transport, cookie)
    return Reply(written, opt_size, rrl.account(_kind(answer), answer.about), proven)


def servfail(message: bytes, service: Service, transport: Transport, counts: Counts) -> Reply | None:
    """The reply to a query that ``respond`` failed on; None: not even that."""
    try:
        query = read(message)
    except Unanswerable:
        return None
    counts.answered(transport, query.type, codes.SERVFAIL)
    written, opt_size = _write(query, Answer(codes.SERVFAIL, authoritative=False), service, transport, b"")
    return Reply(written, opt_size, rrl.account(rrl.ERROR, b""), proven=False)


def truncated(reply: Reply) -> bytes:
    """What is sent instead of a reply that is one too many: ask again over TCP. An error is small and says all."""
    message = reply.message
    if reply.account == rrl.account(rrl.ERROR, b""):
        return message
    end = names.read(message, HEADER.size) + 4
    flags = int.from_bytes(message[2:4], "big") & ~(_AUTHORITATIVE | _RCODE_BITS) | _TRUNCATED
    header = HEADER.pack(int.from_bytes(message[:2], "big"), flags, 1, 0, 0, bool(reply.opt_size))
    return header + message[HEADER.size : end] + message[len(message) - reply.opt_size :]


def _check_cookie(query: Query, client: bytes, now: int, service: Service, counts: Counts) -> tuple[bytes, bool]:
    """The COOKIE option of the reply (empty: none), and whether the client has proved its address."""
    if service.cookies is None or query.edns is None or query.edns.cookie is None:
        return b"", False
    if not cookies.is_wellformed(query.edns.cookie):
        counts.cookies["malformed"] += 1
        query.rcode = query.rcode or codes.FORMERR
        return b"", False
    checked = service.cookies.check(query.edns.cookie, client, now)
    counts.cookies[checked.outcome] += 1
    return edns.option(codes.OPTION_COOKIE, checked.reply), checked.outcome == "valid"


def _answer(query: Query, table: DnsTable, service: Service) -> Answer:
    """To a query that is well-formed."""
    if not query.question:
        return Answer(authoritative=False)  # it asks for nothing but a cookie (RFC 7873 §5.4)
    if query.rrclass == codes.CLASS_CH and query.name in service.chaos and query.type in (codes.TXT, codes.ANY):
        return Answer(answer=[(query.name, chaos_text(service.chaos[query.name]))], about=query.name)
    if query.rrclass != codes.CLASS_IN:
        return Answer(codes.REFUSED, authoritative=False, ede=codes.EDE_NOT_AUTHORITATIVE)
    if query.type in (codes.AXFR, codes.IXFR):  # D-10: zones are not for everybody to copy
        return Answer(codes.REFUSED, authoritative=False, ede=codes.EDE_PROHIBITED)
    if table.expired:
        return Answer(codes.SERVFAIL, authoritative=False, ede=codes.EDE_NOT_READY)
    answer = lookup(table, query.name, query.type)
    if table.stale and answer.rcode != codes.REFUSED:
        answer.ede = codes.EDE_STALE_ANSWER
    return answer


def _kind(answer: Answer) -> int:
    """What rate limiting calls it."""
    if answer.rcode == codes.NXDOMAIN:
        return rrl.NXDOMAIN
    if answer.rcode != codes.NOERROR or not answer.about:
        return rrl.ERROR
    if answer.answer:
        return rrl.POSITIVE
    return rrl.NODATA if answer.authoritative else rrl.REFERRAL


def _options(query: edns.Edns, answer: Answer, service: Service, transport: Transport, cookie: bytes) -> bytes:
    options = cookie
    if query.nsid and service.nsid:
        options += edns.option(codes.OPTION_NSID, service.nsid)
    if query.keepalive and transport == "tcp":  # over UDP it is ignored (RFC 7828 §3.2.1)
        units = min(int(service.tcp_idle / _KEEPALIVE_UNIT), 0xFFFF)
        options += edns.option(codes.OPTION_KEEPALIVE, units.to_bytes(2, "big"))
    if answer.ede is not None:
        options += edns.option(codes.OPTION_EDE, answer.ede.to_bytes(2, "big"))
    return options


def _write(query: Query, answer: Answer, service: Service, transport: Transport, cookie: bytes) -> tuple[bytes, int]:
    """The message, and the size of the OPT record at its end."""
    opt = b""
    limit = _MAX_TCP
    if transport == "udp":
        limit = min(query.edns.udp_size, service.udp_size) if query.edns else edns.MIN_UDP
    if query.edns:
        options = _options(query.edns, answer, service, transport, cookie)
        opt = edns.reply_record(query.edns, answer.rcode, service.udp_size, options)
        limit -= len(opt)
    flags = _RESPONSE | query.flags & _KEPT | answer.rcode & _RCODE_BITS
    if answer.authoritative:
        flags |= _AUTHORITATIVE
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
    return b"".join([header, *body.parts, opt]), len(opt)


class _Body:
    """What follows the header. Owners are pointers to names that stand before them (RFC 1035 §4.1.4).

    The first owner thereby points to the question and has its case (RFC 4343 §4.1).
    """

    __slots__ = ("_known", "parts", "size")

    def __init__(self, query: Query) -> None:
        self.parts = [query.question]
        self.size = HEADER.size + len(query.question)
        """Bytes of the message so far, header included."""
        self._known = {query.name: HEADER.size} if query.question else {}
        """Folded names that stand uncompressed in the message -> where."""

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

    def _start(self, owner: bytes) -> bytes:
        """What each record of ``owner`` begins with: a pointer if one can reach the name."""
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
        """Remember where the names in an RRset will stand that is appended next."""
        offset = start + TARGET_AT[rrset.type]
        at = self.size
        for body, target in zip(rrset.bodies, rrset.targets, strict=True):
            self._known.setdefault(target, at + offset)
            at += start + len(body)
