"""The fast path of queries over TCP: from a run of framed queries to a run of framed replies. Pure.

A query that is well-formed, asks one question of class IN and carries at most an OPT record without options is answered
from what ``AnswerCache`` and ``DirectAnswers`` know; the first that is not ends the run, and goes to ``respond``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from tfgateway.dns.answer.answer_cache import VARIANTS, Answer, AnswerCache
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.direct_answers import NODATA, NXDOMAIN, DirectAnswers
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.wire import codes, edns
from tfgateway.dns.zones.zones import Zones

_PREFIX: Final = 2
"""Bytes of a message's length (RFC 1035 §4.2.2)."""
_HEADER: Final = 12
_OPT: Final = 11
"""Bytes of an OPT record without options."""
_WITH_EDNS: Final = 2
_MAX_OPTS: Final = 1024


class StreamPath:
    """Answers runs of queries."""

    def __init__(self, zones: Zones, service: ServerOptions, counts: QueryCounters) -> None:
        self._zones = zones
        self._service = service
        self._answers = AnswerCache(zones, counts, "tcp")
        direct = DirectAnswers(zones, counts, "tcp")
        self._denied = direct.denied
        self._direct_answer = cast("Callable[[bytes, bytes], Answer | None]", direct.answer)
        """For what has not been proven to be a name."""
        self._opts: dict[bytes, bytes] = {}
        """OPT record without options of a query -> that of its reply."""

    def answer(self, data: bytes, at: int, most: int) -> tuple[list[bytes], int]:
        """Framed replies to framed queries from ``at`` on, and where the first begins that has none here.

        most: queries at most. A query that ``data`` does not hold whole gets none.
        """
        if self._zones.stale or self._zones.expired:
            return [], at  # every reply is a special one
        known, opts, find = self._answers.known, self._opts, self._find
        replies: list[bytes] = []
        end = len(data)
        while len(replies) < most and end - at > _PREFIX + _HEADER:
            start = at + _PREFIX
            stop = start + (data[at] << 8 | data[at + 1])
            if stop > end:
                break
            variant = VARIANTS.get(data[start + 2 : start + _HEADER])
            if variant is None:
                break
            opt, last = b"", stop
            if variant >= _WITH_EDNS:
                last -= _OPT
                opt = opts.get(data[last:stop]) or self._learn_opt(data[last:stop])
                if not opt:
                    break
            question = data[start + _HEADER : last]
            answer = known.get(question) or find(question)
            if answer is None:
                break
            heads, tail, cell, _bucket = answer
            cell[0] += 1
            size = _HEADER + len(question) + len(tail) + len(opt)
            replies.append(
                b"%c%c%b%b%b%b%b"
                % (size >> 8, size & 0xFF, data[start : start + 2], heads[variant], question, tail, opt)
            )
            at = stop
        return replies, at

    def _find(self, question: bytes) -> Answer | None:
        """The answer to a question that is not in the cache as it was sent."""
        folded = question.lower()
        answer = self._answers.known.get(folded) or self._denied(folded)
        if answer is not None:
            return answer
        tail = question[-4:]
        answer = self._direct_answer(folded[:-4], tail)
        if answer is not None and (answer[0] is NXDOMAIN or answer[0] is NODATA):
            return answer  # made anew each time: there is no end of names that do not exist
        return self._answers.consider(folded[:-4] + tail, answer)

    def _learn_opt(self, record: bytes) -> bytes:
        """The OPT record of the reply to one without options; empty: it is another one."""
        if len(record) < _OPT:
            return b""
        owner, kind, _size, _rcode, version, flags, length = edns.OPT.unpack_from(record)
        if owner or kind != codes.OPT or version != edns.VERSION or length:
            return b""
        if len(self._opts) >= _MAX_OPTS:
            self._opts.clear()
        reply = edns.reply_record(edns.read(edns.MIN_UDP, flags, b""), codes.NOERROR, self._service.udp_size, b"")
        self._opts[record] = reply
        return reply
