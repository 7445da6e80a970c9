"""Reading a query: header, question, OPT record. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from tfgateway.dns.wire import codes, edns, names
from tfgateway.dns.wire.names import Name
from tfgateway.errors import ParseError

HEADER: Final = struct.Struct("!HHHHHH")
_QUESTION_TAIL: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_RESPONSE: Final = 0x8000


class Unanswerable(ParseError):
    """Bytes that get no reply; ``reason`` is the label of the metric that counts them."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Query:
    """What could be parsed of a query. Of a malformed one that is everything before the fault."""

    id: int
    flags: int
    rcode: int = codes.NOERROR
    """Why it is not looked up: FORMERR, NOTIMP, NOTAUTH or BADVERS."""
    question: bytes = b""
    """Name, type and class as sent: the reply repeats them unchanged. Empty: none, or none that can be read."""
    name: Name = names.NONE
    """Of the question."""
    type: int = 0
    rrclass: int = 0
    edns: edns.Edns | None = None
    tsig_at: int | None = None
    """Where the TSIG record begins, the last one of the message (RFC 8945 §5.1)."""
    serial: int | None = None
    """Of the SOA in the authority section: what a secondary has that asks for a zone's changes (RFC 1995 §3)."""

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 0xF


def read(message: bytes) -> Query:
    """The query in ``message``; what is wrong with it is its ``rcode``. Errors: ``Unanswerable``.

    Too short for a header: nothing to answer with. A response is never answered: two servers would talk forever.
    """
    if len(message) < HEADER.size:
        raise Unanswerable("short")
    identity, flags, *counts = HEADER.unpack_from(message)
    if flags & _RESPONSE:
        raise Unanswerable("response")
    query = Query(identity, flags)
    try:
        _read_sections(query, message, counts)
    except ParseError:
        query.rcode = codes.FORMERR
    if query.opcode == codes.OPCODE_NOTIFY:
        query.rcode = query.rcode or codes.NOTAUTH  # nothing is copied from elsewhere
    elif query.opcode not in (codes.OPCODE_QUERY, codes.OPCODE_UPDATE):
        query.rcode = codes.NOTIMP
    elif query.rcode == codes.NOERROR and query.edns is not None and query.edns.version != edns.VERSION:
        query.rcode = codes.BADVERS
    return query


def _read_sections(query: Query, message: bytes, counts: list[int]) -> None:
    questions, answers, authorities, additionals = counts
    if questions > 1:
        raise ParseError("more than one question")  # RFC 9619
    end = HEADER.size
    if questions:
        end = names.read(message, end)
        if end + _QUESTION_TAIL.size > len(message):
            raise ParseError("message ends within the question")
        query.name = names.fold(message[HEADER.size : end])
        query.type, query.rrclass = _QUESTION_TAIL.unpack_from(message, end)
        end += _QUESTION_TAIL.size
        query.question = message[HEADER.size : end]
    for _ in range(answers):
        end = _read_record(message, end)[1]
    for _ in range(authorities):
        kind, end = _read_record(message, end)
        if kind == codes.SOA:
            query.serial = int.from_bytes(message[end - 20 : end - 16], "big")
    for _ in range(additionals):
        if query.tsig_at is not None:
            raise ParseError("TSIG is not the last record")
        start = end
        kind, end = _read_record(message, start, query)
        if kind == codes.TSIG:
            query.tsig_at = start
    if end != len(message):
        raise ParseError("data follows the message")


def _read_record(message: bytes, at: int, query: Query | None = None) -> tuple[int, int]:
    """Type and end of the record at ``at``; an OPT is noted in ``query`` (None: no place for one, nor for a TSIG)."""
    owner = at
    at = names.skip(message, at)
    if at + _RECORD.size > len(message):
        raise ParseError("message ends within a record")
    kind, rrclass, ttl, length = _RECORD.unpack_from(message, at)
    at += _RECORD.size
    end: int = at + length
    if end > len(message):
        raise ParseError("message ends within a record's data")
    if kind == codes.OPT:
        # RFC 6891 §6.1.1: once, at the root, in the additional section.
        if query is None or query.edns is not None or message[owner] != 0:
            raise ParseError("misplaced OPT record")
        query.edns = edns.read(rrclass, ttl, message[at:end])
    elif kind == codes.TSIG and query is None:
        raise ParseError("misplaced TSIG record")
    return kind, end
