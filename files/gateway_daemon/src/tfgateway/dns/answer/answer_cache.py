"""A cache of encoded answers by question; a change of a zone drops those that depend on the changed names. Pure."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import cache
from typing import Final

from tfgateway.dns.answer.counters import Cell, QueryCounters
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import Transport, respond
from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.rrsets import TARGET_AT
from tfgateway.dns.zones.zones import Zones

ROOM: Final = 512 - 12 - 64
"""Bytes of question and tail: with them a reply fits whatever a client takes, an OPT record with a cookie included."""
_SIZE: Final = 65536
"""Questions that are kept; more, and all are learnt anew."""

_RD: Final = 0x0100
_AD_CD: Final = (0, 0x0010, 0x0020, 0x0030)
_REPLY: Final = 0x8000
_HEAD: Final = struct.Struct("!HHHHH")
_RECORD: Final = struct.Struct("!HHIH")
_HEADER: Final = 12
_QUESTION_TAIL: Final = 4
_LEARNT: Final = frozenset(
    kind.to_bytes(2, "big") + codes.CLASS_IN.to_bytes(2, "big")
    for kind in (codes.A, codes.NS, codes.CNAME, codes.MX, codes.TXT, codes.AAAA, codes.SRV, codes.CAA)
)
"""Type and class of what is kept. None has a byte that is a letter: a whole question can be folded to find it."""

VARIANTS: Final = {
    _HEAD.pack(rd | bits, 1, 0, 0, opt): 2 * opt + bool(rd) for rd in (0, _RD) for bits in _AD_CD for opt in (0, 1)
}
"""What follows the id in the header of an ordinary query -> which of an answer's heads replies to it."""

_SERVICE: Final = ServerOptions()

Heads = tuple[bytes, bytes, bytes, bytes]
"""What follows the id in the header of the reply, by variant: without and with RD; the same with an OPT record."""
Answer = tuple[Heads, bytes, Cell, int]
"""Head, what follows the question (but for an OPT record), the counter of such replies, ``Reply.bucket``."""


@cache
def heads(flags: int, answers: int, authorities: int, additionals: int) -> Heads:
    """Headers of a reply, without and with RD and OPT. flags: all but QR and RD; additionals: without an OPT record."""
    flags |= _REPLY
    plain, recursion, edns, both = (
        _HEAD.pack(flags | rd, 1, answers, authorities, additionals + opt) for opt in (0, 1) for rd in (0, _RD)
    )
    return plain, recursion, edns, both


class AnswerCache:
    """Positive answers and referrals that are requested often, each with the names that it was made from."""

    def __init__(self, zones: Zones, counts: QueryCounters, transport: Transport = "udp") -> None:
        """transport: that replies are counted for."""
        self._transport = transport
        self._zones = zones
        self._counts = counts
        self.known: dict[bytes, Answer] = {}
        """Folded question (name, type, class) -> its answer."""
        self._asked: dict[bytes, bool] = {}
        """Questions that were asked before -> there is nothing to learn."""
        self._depending: defaultdict[Name, set[bytes]] = defaultdict(set)
        """Name -> questions whose answer its records, or anything at or below it, may change."""
        self._learnt = 0
        zones.watch(self._changed)

    def consider(self, question: bytes, answer: Answer | None) -> Answer | None:
        """Cache the answer to a question that is asked again. answer: None: learn it from the slow path.

        question: type and class as sent, the name folded.
        """
        if question[-_QUESTION_TAIL:] not in _LEARNT:
            return answer
        nothing = self._asked.get(question)
        if nothing is None:
            if len(self._asked) >= _SIZE:
                self._asked.clear()
            self._asked[question] = False
        elif not nothing:
            self._asked[question] = True
            return self._learn(question, answer)
        return answer

    def _learn(self, question: bytes, answer: Answer | None) -> Answer | None:
        """Ask the slow path as a client that takes everything, and keep what is true for all clients."""
        message = bytes(2) + _HEAD.pack(0, 1, 0, 0, 0) + question
        made = respond(message, b"", 0, self._zones, _SERVICE, "tcp", QueryCounters())
        if made is None or len(made.message) > _HEADER + ROOM:
            return answer
        reply = made.message
        flags, _, *counts = _HEAD.unpack_from(reply, 2)
        depends = {names.fold(question[:-_QUESTION_TAIL])}
        for kind, targets in _records(reply, len(message), sum(counts)):
            if kind == codes.SOA:
                return answer  # the serial changes with everything
            depends.update(targets)
        rcode = flags & 0xF
        if rcode != codes.NOERROR:
            return answer
        if self._learnt >= _SIZE:
            self.forget()
        self._learnt += 1
        for name in depends:
            for above in self._dependencies(name):
                self._depending[above].add(question)
        kind = int.from_bytes(question[-4:-2], "big")
        cell = self._counts.cell(self._transport, kind, rcode)
        learnt = heads(flags & ~_REPLY, *counts), reply[len(message) :], cell, made.bucket
        self.known[question] = learnt
        return learnt

    def forget(self) -> None:
        """Drop all answers."""
        self.known.clear()
        self._depending.clear()
        self._asked.clear()
        self._learnt = 0

    def _changed(self, zone: Name, changed: Collection[Name] | None) -> None:
        """Drop the answers that depend on changed names; a ``Watcher`` of the zones."""
        self._asked.clear()
        if changed is None:
            self._drop(zone)  # names above it come to exist or cease to, but those have no positive answers
            return
        for name in changed:
            self._drop(name)
            # Names between it and the apex may have begun or ceased to exist with it.
            while name != zone and (name := names.parent(name)) != zone:
                self._drop(name)

    def _dependencies(self, name: Name) -> Iterator[Name]:
        """Names whose change may change what ``name`` leads to: it, those above it, and the wildcards beside those."""
        zone = self._zones.find(name, codes.A)
        top = names.ROOT if zone is None else zone.name
        yield name
        while name not in (top, names.ROOT):
            name = names.parent(name)
            yield names.wildcard(name)
            yield name

    def _drop(self, name: Name) -> None:
        for question in self._depending.pop(name, ()):
            self.known.pop(question, None)


def _records(reply: bytes, at: int, count: int) -> Iterator[tuple[int, list[Name]]]:
    """Type, and the names in the data, of each record of a reply that this server made."""
    for _ in range(count):
        at = names.skip(reply, at)
        kind, _class, _ttl, length = _RECORD.unpack_from(reply, at)
        end = at + _RECORD.size + length
        target = TARGET_AT.get(kind)
        yield kind, [] if target is None else [names.fold(reply[at + target : end])]
        at = end
