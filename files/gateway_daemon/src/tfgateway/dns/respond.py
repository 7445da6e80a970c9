"""Bytes of a query to bytes of its reply, for UDP and TCP alike. Pure."""

from __future__ import annotations

from typing import Final, Literal

from tfgateway.dns import codes, edns, names
from tfgateway.dns.counts import Counts
from tfgateway.dns.lookup import Answer, Section, lookup
from tfgateway.dns.query import HEADER, Query, Unanswerable, read
from tfgateway.dns.rrsets import TARGET_AT, RRset
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


def respond(message: bytes, table: DnsTable, transport: Transport, udp_size: int, counts: Counts) -> bytes | None:
    """The reply to ``message``; None: it gets none.

    udp_size: bytes of UDP payload that we send at most and say that we take. What happened is added to ``counts``.
    """
    try:
        query = read(message)
    except Unanswerable as error:
        counts.dropped(transport, error.reason)
        return None
    if query.rcode != codes.NOERROR:
        answer = Answer(query.rcode, authoritative=False)
    elif query.rrclass != codes.CLASS_IN or query.type in (codes.AXFR, codes.IXFR):
        answer = Answer(codes.REFUSED, authoritative=False)  # D-10: zones are not for everybody to copy
    else:
        answer = lookup(table, query.name, query.type)
    counts.answered(transport, query.type, answer.rcode)
    return _write(query, answer, transport, udp_size)


def servfail(message: bytes, transport: Transport, udp_size: int, counts: Counts) -> bytes | None:
    """The reply to a query that ``respond`` failed on; None: not even that."""
    try:
        query = read(message)
    except Unanswerable:
        return None
    counts.answered(transport, query.type, codes.SERVFAIL)
    return _write(query, Answer(codes.SERVFAIL, authoritative=False), transport, udp_size)


def _write(query: Query, answer: Answer, transport: Transport, udp_size: int) -> bytes:
    opt = b""
    limit = _MAX_TCP
    if transport == "udp":
        limit = min(query.edns.udp_size, udp_size) if query.edns else edns.MIN_UDP
    if query.edns:
        opt = edns.reply_record(query.edns, answer.rcode, udp_size)
        limit -= len(opt)
    flags = _RESPONSE | query.flags & _KEPT | answer.rcode & 0xF
    if answer.authoritative:
        flags |= _AUTHORITATIVE
    body = _Body(query)
    written = [body.add(section) for section in (answer.answer, answer.authority, answer.glue)]
    optional = 0
    if body.size > limit:
        flags |= _TRUNCATED
        body = _Body(query)
        written = [0, 0, 0]
    else:
        optional = body.add_what_fits(answer.additional, limit)
    answers, authorities, glue = written
    additionals = glue + optional + bool(opt)
    header = HEADER.pack(query.id, flags, bool(query.question), answers, authorities, additionals)
    return b"".join([header, *body.parts, opt])


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
