"""Response rate limiting: how many similar responses a network may cause a second (D-12). Pure.

A query's source address is easily forged; the response then hits a victim that asked for nothing. Responses are
counted by the network that they go to and by what they are about, the *bucket*. Each has a credit of one second's
worth; what exceeds it is dropped, but for each n-th, which goes out truncated, so that a real client asks again over
TCP. The debt grows up to ``window`` seconds: a flood that goes on gets no more than those. As BIND, NSD and Knot do it.

Nearly all networks ask for so little that no bucket of theirs can be over its limit. What goes to them is only counted
(``noted``), and charged when there is more of it than ``gate`` within a second.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

POSITIVE: Final = 0
NODATA: Final = 1
NXDOMAIN: Final = 2
REFERRAL: Final = 3
ERROR: Final = 4
ALL: Final = 5
"""Everything that goes to one network."""
KIND_NAMES: Final = {
    POSITIVE: "responses",
    NODATA: "nodata",
    NXDOMAIN: "nxdomains",
    REFERRAL: "referrals",
    ERROR: "errors",
    ALL: "all",
}

SEND: Final = 0
SLIP: Final = 1
"""Send ``respond.truncated`` instead."""
DROP: Final = 2

_KIND_BITS: Final = 3
_KIND_MASK: Final = 2**_KIND_BITS - 1
_SECOND: Final = 1_000_000
_IPV4: Final = 4
_IPV6: Final = 16
"""Bytes of packed addresses."""
_MAX_REPORTED: Final = 100
_MAX_NOTED: Final = 255
_PLACE_BITS: Final = 16

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def bucket(kind: int, name: bytes) -> int:
    """The bucket that responses about ``name`` (folded) are counted under. Of this process only: names are hashed."""
    return hash(name) << _KIND_BITS | kind


def place(network: bytes) -> int:
    """The index in ``RateLimiter.noted`` for a network. network: bytes of its prefix, at least 2."""
    return int.from_bytes(network[-2:], sys.byteorder)


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Responses a second by kind, and the prefixes of networks, from the settings."""

    rates: Mapping[int, float]
    """Kind -> responses a second; absent or 0: not limited."""
    slip: int = 2
    """Each n-th response too many is sent truncated; 0: none, 1: all."""
    window: int = 15
    """Seconds that a debt lasts at most."""
    ipv4_prefix: int = 24
    ipv6_prefix: int = 56
    exempt: Sequence[Network] = field(default=())
    table_size: int = 50_000
    """Accounts that are remembered at most."""
    log_only: bool = False
    """Count, and let everything through."""


class _Busy:
    """A network that gets more than ``gate`` in this second."""

    __slots__ = ("count", "entries")

    def __init__(self, count: int = 0) -> None:
        self.count = count
        """Responses so far."""
        self.entries: dict[int, tuple[list[int], int]] = {}
        """Account -> its entry and what a response costs, so that they need not be looked for."""


def _take(entry: list[int], cost: int, now: int, window: int) -> int:
    """Use credit of an bucket. 0: there was some; else the number of responses that exceeded it so far."""
    full = entry[0]
    full = (full if full > now else now) + cost
    if full <= now + _SECOND:
        entry[0] = full
        return 0
    entry[0] = min(full, now + window)
    entry[1] += 1
    return entry[1]


class RateLimiter:
    """Credits of (network, bucket) pairs, in two generations of half the table: what is not used ages out."""

    __slots__ = (
        "_busy",
        "_cost_all",
        "_costs",
        "_exempt",
        "_limits",
        "_old",
        "_reported",
        "_since",
        "_window",
        "_young",
        "gate",
        "noted",
        "over",
        "prefix_sizes",
    )

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._costs = [
            int(_SECOND / rate) if (rate := limits.rates.get(kind, 0)) else 0 for kind in range(_KIND_MASK + 1)
        ]
        """Microseconds of credit that a response takes."""
        self._cost_all = self._costs[ALL]
        self._exempt = [
            (item.version == 4, shift := item.max_prefixlen - item.prefixlen, int(item.network_address) >> shift)
            for item in limits.exempt
        ]
        self._window = limits.window * _SECOND
        self._young: dict[int, list[int]] = {}
        self._old: dict[int, list[int]] = {}
        self._reported: dict[tuple[bool, int], int] = {}
        self.gate = self._gate()
        """Responses of this second to a network that are counted only; errors are always charged at once."""
        self.prefix_sizes = {_IPV4: limits.ipv4_prefix // 8, _IPV6: limits.ipv6_prefix // 8}
        """Bytes of an address -> those of its network."""
        self.noted = bytearray(2**16)
        """Responses of this second, at most ``gate``, by the last two bytes of the network (``place``). Networks that
        meet in one place are charged sooner, no more.
        """
        self._busy: dict[bytes, _Busy] = {}
        """Networks that get more than ``gate`` in this second."""
        self._since = 0
        self.over: dict[tuple[int, str], int] = {}
        """(kind, ``dropped``, ``slipped``, ``exempt`` or ``logged``) -> responses over their limit so far."""

    def __len__(self) -> int:
        """The number of buckets in memory."""
        return len(self._young) + len(self._old)

    def begin(self, now: int) -> None:
        """Set the time before responses are noted or checked. now: monotonic in us."""
        if now - self._since >= _SECOND or len(self._busy) > self._limits.table_size:
            self._since = now
            self.noted[:] = bytes(len(self.noted))
            # Half of what would be charged anyway: a client that goes on like this is charged from the first one on.
            busy = [network for network, found in self._busy.items() if 2 * found.count >= self.gate]
            self._busy = {network: _Busy() for network in busy}
            for network in busy:
                self.noted[place(network)] = self.gate

    def check(self, client: bytes, about: int, now: int) -> int:
        """SEND, SLIP or DROP for one response. client: packed address; about: ``bucket``; now: monotonic in us."""
        if now - self._since >= _SECOND:
            self.begin(now)
        key = client[: self.prefix_sizes[len(client)]]
        busy = self._busy.get(key)
        if busy is not None and not self._cost_all and (found := busy.entries.get(about)) is not None:
            entry, cost = found
            full = entry[0]
            full = (full if full > now else now) + cost
            if full <= now + _SECOND:  # as nearly always
                busy.count += 1
                entry[0] = full
                return SEND
        kind = about & _KIND_MASK
        if kind == ERROR or not self.gate:
            busy = None
        else:
            if busy is None:
                at = place(key)
                if self.noted[at] < self.gate:
                    self.noted[at] += 1
                    return SEND
                busy = self._busy[key] = _Busy(self.gate)
                for what in (about, ALL):  # what was only noted is taken for more of the same
                    _take(
                        self._entry(client, what), self.gate * self._costs[what & _KIND_MASK], self._since, self._window
                    )
            busy.count += 1
        if cost := self._costs[kind]:
            entry = self._entry(client, about)
            if busy is not None:
                busy.entries[about] = entry, cost
            if over := _take(entry, cost, now, self._window):
                return self._judge(over, client, kind)
        if self._cost_all and (over := _take(self._entry(client, ALL), self._cost_all, now, self._window)):
            return self._judge(over, client, ALL)
        return SEND

    def _gate(self) -> int:
        """Half of the smallest limit, below which responses are only counted; 0: they are not."""
        if any(bits % 8 or bits < _PLACE_BITS for bits in (self._limits.ipv4_prefix, self._limits.ipv6_prefix)):
            return 0
        rates = [rate for kind, rate in self._limits.rates.items() if rate and kind != ERROR]
        return min(int(min(rates, default=0) / 2), _MAX_NOTED)

    def report(self) -> dict[str, int]:
        """Limited networks -> number of limited responses since the last call; at most 100 networks."""
        limited = {}
        for (ipv4, network), count in self._reported.items():
            if ipv4:
                prefix = self._limits.ipv4_prefix
                limited[str(ipaddress.IPv4Network((network << 32 - prefix, prefix)))] = count
            else:
                prefix = self._limits.ipv6_prefix
                limited[str(ipaddress.IPv6Network((network << 128 - prefix, prefix)))] = count
        self._reported.clear()
        return limited

    def _entry(self, client: bytes, about: int) -> list[int]:
        """The bucket of a client's network: when all credit is back, and how many responses exceeded it."""
        key = hash((*self._network(client), about))
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key) or [0, 0]
            self._young[key] = entry
            if 2 * len(self._young) >= self._limits.table_size:
                self._old = self._young
                self._young = {}
        return entry

    def _network(self, client: bytes) -> tuple[bool, int]:
        """Whether it is IPv4, and the bits of the prefix."""
        address = int.from_bytes(client, "big")
        if len(client) == _IPV4:
            return True, address >> 32 - self._limits.ipv4_prefix
        return False, address >> 128 - self._limits.ipv6_prefix

    def _judge(self, over: int, client: bytes, kind: int) -> int:
        """SLIP, DROP or, in log mode, SEND. over: the number of this response among those that exceeded the limit."""
        address = int.from_bytes(client, "big")
        ipv4, network = self._network(client)
        limits = self._limits
        verdict, outcome = DROP, "dropped"
        if any(family == ipv4 and address >> shift == value for family, shift, value in self._exempt):
            verdict, outcome = SEND, "exempt"
        elif limits.log_only:
            verdict, outcome = SEND, "logged"
        elif limits.slip and over % limits.slip == 0:
            verdict, outcome = SLIP, "slipped"
        self.over[kind, outcome] = self.over.get((kind, outcome), 0) + 1
        if outcome != "exempt" and ((ipv4, network) in self._reported or len(self._reported) < _MAX_REPORTED):
            self._reported[ipv4, network] = self._reported.get((ipv4, network), 0) + 1
        return verdict
