"""The fast path of UDP queries: from a datagram to its reply in the same buffer, without parsing what is known.

A query that is well-formed, asks one question of class IN and carries at most an OPT record, without options or with a
cookie that is known to be valid, is answered here in one of two ways; whatever else arrives goes to ``respond``, byte
for byte with the same result:

* ``AnswerCache`` knows the question: its reply is two pieces of bytes, before and after the question.
* The name is in a zone that has the answer at once: one RRset, NODATA or NXDOMAIN (see ``direct_answers``).

The question stays where it is, with its case (RFC 4343); owners of records are pointers to it. Equality with a
question that is known proves that a datagram is well-formed. Rate limits are applied here, to these replies and
to those of ``respond``. Pure: works on memory, knows no sockets.
"""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from tfgateway.dns.answer.answer_cache import VARIANTS, Answer, AnswerCache, heads
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.direct_answers import NODATA, NXDOMAIN, DirectAnswers
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.rate_limit import DROP, SLIP, RateLimiter
from tfgateway.dns.answer.respond import Reply, truncated
from tfgateway.dns.wire import codes, cookies, edns
from tfgateway.dns.zones.zones import Zones

_OPT: Final = 11
"""Bytes of an OPT record without options."""
_COOKIE: Final = struct.pack("!HH", codes.OPTION_COOKIE, cookies.SIZE)
"""Code and length of an option that holds a client's and a server's cookie."""
_COOKIE_HEAD: Final = _OPT + len(_COOKIE)
_COOKIE_OPT: Final = _COOKIE_HEAD + cookies.SIZE
"""Bytes of an OPT record with just that option."""
_WITH_EDNS: Final = 2
"""The first variant with an OPT record."""
_MAX_OPTS: Final = 1024
_MAX_PROVEN: Final = 65_536
_TRUNCATED: Final = 0x0200
_SLIP: Final = heads(_TRUNCATED, 0, 0, 0)

MAX_QUERY: Final = 4096
"""Bytes of a datagram that are looked at; what is longer is cut there, and hardly ever well-formed."""

Slow = Callable[[bytes, bytes], Reply | None]
"""The reply to (message, packed address of the client); None: it gets none. Must not raise."""
Later = Callable[[bytes], bool]
"""Whether a message gets its reply later. Must not raise."""


class Slots:
    """Positions of a batch of datagrams, and of their addresses, in memory."""

    def __init__(
        self,
        buffer: mmap.mmap,
        starts: Sequence[int],
        peers: Sequence[int],
        address_size: int,
        replies: memoryview[int],
        prefix_size: int,
    ) -> None:
        """Set up for batches in ``buffer``.

        starts, peers: where datagrams and their clients' packed addresses are, both evenly spaced. replies: set to the
        bytes of each reply. prefix_size: bytes of an address that name its network, for ``RateLimiter.noted``.
        """
        self.buffer = buffer
        self.replies = replies
        self.numbers = list(range(len(starts)))
        self.starts = list(starts)
        # Slice objects are made once, which is quicker than slicing in the loop.
        self.heads = [slice(at + 2, at + 12) for at in starts]
        """What follows the id in the header."""
        self.clients = [slice(at, at + address_size) for at in peers]
        first, step = peers[0] + max(prefix_size - 2, 0), peers[1] - peers[0]
        view = memoryview(buffer)[first : first + step * (len(peers) - 1) + 2]
        self.places = view.cast("H")[:: step // 2]
        """Of the clients' networks, see ``rate_limit.place``."""


class FastPath:
    """Answers batches of datagrams in place."""

    def __init__(
        self,
        zones: Zones,
        service: ServerOptions,
        limiter: RateLimiter | None,
        slow: Slow,
        counts: QueryCounters,
        later: Later | None = None,
    ) -> None:
        """limiter: None: responses are not limited. later: None: each message gets its reply at once, or none."""
        self._later = later
        self._deferred: list[tuple[int, bytes]] = []
        self._zones = zones
        self._service = service
        self._limiter = limiter
        self._slow = slow
        self._counts = counts
        self._answers = AnswerCache(zones, counts)
        self._direct = DirectAnswers(zones, counts)
        self._direct_answer = cast("Callable[[bytes, bytes], Answer | None]", self._direct.answer)
        """The same for what has not been proven to be a name."""
        self._opts: dict[bytes, bytes] = {}
        """OPT record without options of a query -> that of its reply."""
        self._proven: dict[bytes, tuple[bytes, int]] = {}
        """OPT record with just a valid cookie, and the client's address -> that of the reply, and until when it is so,
        Unix seconds.
        """

    def slots(
        self,
        buffer: mmap.mmap,
        starts: Sequence[int],
        peers: Sequence[int],
        address_size: int,
        replies: memoryview[int],
    ) -> Slots:
        """Memory for batches, see ``Slots``."""
        prefix_size = 0 if self._limiter is None else self._limiter.prefix_sizes[address_size]
        return Slots(buffer, starts, peers, address_size, replies, prefix_size)

    def answer(self, slots: Slots, sizes: Sequence[int], now: float, monotonic: int) -> list[int]:
        """Write the reply and its size over each datagram; the numbers of the datagrams that get none.

        sizes: of the datagrams; now: Unix seconds; monotonic: us.
        """
        limiter = self._limiter
        variants: Mapping[bytes, int] = VARIANTS
        if self._zones.stale or self._zones.expired or self._service.cookies_required:
            variants = {}  # every reply is a special one
        known, opts, proven = self._answers.known, self._opts, self._proven
        denied, find = self._direct.denied, self._find
        buffer = slots.buffer
        gate, noted = 0, bytearray()
        if limiter is not None:
            limiter.begin(monotonic)
            gate, noted = limiter.gate, limiter.noted
        valid = 0
        cookies_first = False
        """Whether the last query with an OPT record had a cookie: the next one is likely to be similar."""
        silent = []
        lengths = array("L")
        places = slots.places[: len(sizes)].tolist()
        for number, at, size, head, client, place in zip(
            slots.numbers, slots.starts, sizes, slots.heads, slots.clients, places, strict=False
        ):
            end = at + size
            variant = variants.get(buffer[head])
            if variant is not None:
                opt: bytes | None = b""
                limited, proof = limiter, 0
                if variant >= _WITH_EDNS:
                    opt = None if cookies_first else opts.get(buffer[end - _OPT : end])
                    if opt is not None:
                        end -= _OPT
                    elif (entry := proven.get(buffer[end - _COOKIE_OPT : end] + buffer[client])) and now < entry[1]:
                        opt, cookies_first = entry[0], True
                        end -= _COOKIE_OPT
                        limited, proof = None, 1  # RFC 7873 §5.2.3
                    elif cookies_first and (opt := opts.get(buffer[end - _OPT : end])) is not None:
                        cookies_first = False
                        end -= _OPT
                    else:
                        self._learn_opt(buffer[max(at, end - _COOKIE_OPT) : end], buffer[client], int(now))
                if opt is not None:
                    question = buffer[at + 12 : end]
                    answer = known.get(question)
                    if answer is None:
                        folded = question.lower()
                        answer = known.get(folded) or denied(folded) or find(folded[:-4], question[-4:])
                    if answer is not None:
                        heads_, tail, cell, _account = answer
                        cell[0] += 1
                        if limited is not None:
                            if (count := noted[place]) < gate:
                                noted[place] = count + 1
                            elif verdict := limited.check(buffer[client], answer[3], monotonic):
                                if verdict == DROP:
                                    self._counts.dropped("udp", "rate")
                                    silent.append(number)
                                    lengths.append(0)
                                    continue
                                heads_, tail = _SLIP, b""
                        buffer[head] = heads_[variant]
                        if opt:
                            tail += opt
                            valid += proof
                        done = end + len(tail)
                        buffer[end:done] = tail
                        lengths.append(done - at)
                        continue
            message = buffer[at : at + size]
            if self._later is not None and self._later(message):
                self._deferred.append((number, message))
                silent.append(number)
                lengths.append(0)
                continue
            reply = self._slowly(message, buffer[client], monotonic)
            if reply is None:
                silent.append(number)
                lengths.append(0)
            else:
                buffer[at : at + len(reply)] = reply
                lengths.append(len(reply))
        slots.replies[: len(lengths)] = lengths
        if valid:
            self._counts.cookies["valid"] += valid
        return silent

    def take_deferred(self) -> list[tuple[int, bytes]]:
        """The number and content of the datagrams of the last batch that get their replies later."""
        deferred, self._deferred = self._deferred, []
        return deferred

    def limited(self, reply: Reply, client: bytes, monotonic: int) -> bytes | None:
        """The message to send under the rate limits; None: none. client: packed address; monotonic: us."""
        if self._limiter is not None and not reply.proven:
            verdict = self._limiter.check(client, reply.bucket, monotonic)
            if verdict == DROP:
                self._counts.dropped("udp", "rate")
                return None
            if verdict == SLIP:
                return truncated(reply)
        return reply.message

    def _find(self, name: bytes, tail: bytes) -> Answer | None:
        """The answer to a question that is not in the cache.

        name: folded bytes that should be one; tail: those that should be type and class, as sent.
        """
        answer = self._direct_answer(name, tail)
        if answer is not None and (answer[0] is NXDOMAIN or answer[0] is NODATA):
            return answer  # made anew each time: there is no end of names that do not exist
        return self._answers.consider(name + tail, answer)

    def _learn_opt(self, end: bytes, client: bytes, now: int) -> None:
        """Remember what a query ends with: an OPT record without options or with a cookie."""
        for size in (_OPT, _COOKIE_OPT):
            record = end[-size:]
            if len(record) < size:
                return
            owner, kind, _size, _rcode, version, flags, data = edns.OPT.unpack_from(record)
            if owner or kind != codes.OPT or version != edns.VERSION or data != size - _OPT:
                continue
            query = edns.read(edns.MIN_UDP, flags, b"")
            reply = edns.reply_record(query, codes.NOERROR, self._service.udp_size, record[_OPT:])
            if not data:
                if len(self._opts) >= _MAX_OPTS:
                    self._opts.clear()
                self._opts[record] = reply
            elif self._service.cookies is not None and record[_OPT:_COOKIE_HEAD] == _COOKIE:
                cookie = record[_COOKIE_HEAD:]
                checked = self._service.cookies.check(cookie, client, now)
                if checked.outcome == "valid" and checked.reply == cookie:
                    if len(self._proven) >= _MAX_PROVEN:
                        self._proven.clear()
                    self._proven[record + client] = reply, cookies.renewed_at(cookie)
            return

    def _slowly(self, message: bytes, client: bytes, monotonic: int) -> bytes | None:
        """Answer by parsing the whole query (``respond``), under the same limits."""
        reply = self._slow(message, client)
        if reply is None:
            return None
        return self.limited(reply, client, monotonic)
