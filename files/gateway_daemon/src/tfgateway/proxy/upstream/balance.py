"""Load balancing: which of a service's targets the next connection gets. Pure: the clock is passed in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tfgateway.proxy.protocol import TLS, Protocol

Method = Literal["round_robin", "least_connections"]

_LEAST_SHARE = 0.1
"""Of its weight, what a target gets at the beginning of a slow start: with nothing at all it would never be seen."""


@dataclass(slots=True, eq=False)
class Member:
    """One target of a service, and its state."""

    address: str
    """IP literal or, from an operator only, a host name."""
    http_port: int
    tls_port: int
    weight: int = 1
    rise: int = 2
    """Checks in a row that must pass until it is used again."""
    fall: int = 3
    """Checks in a row that must fail until it is not used any more."""
    addresses: tuple[str, ...] = ()
    """IP literals to dial, in turn; empty: the name has none, or is not known yet."""
    up: bool = True
    active: int = 0
    """Connections that it has now."""
    _since: float = float("-inf")
    _streak: int = 0
    _current: float = 0.0
    _turn: int = 0

    def port(self, protocol: Protocol) -> int:
        """0: it takes no such traffic."""
        return self.tls_port if protocol is TLS else self.http_port

    def next_address(self, tried: Collection[str] = ()) -> str | None:
        """One of its addresses that was not ``tried``, each in its turn; None: there is none."""
        for _ in self.addresses:
            self._turn = (self._turn + 1) % len(self.addresses)
            address = self.addresses[self._turn]
            if address not in tried:
                return address
        return None

    def observe(self, passed: bool, now: float) -> bool:
        """Take the outcome of a check. True: the member went up or down by it."""
        if passed == self.up:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < (self.rise if passed else self.fall):
            return False
        self.up = passed
        self._streak = 0
        self._since = now
        return True

    def share(self, now: float, slow_start: float) -> float:
        """Its weight, less while it warms up after it was down (``slow_start`` seconds)."""
        age = now - self._since
        if age >= slow_start:
            return self.weight
        return self.weight * max(_LEAST_SHARE, age / slow_start)


@dataclass(slots=True, eq=False)
class TargetPool:
    """The targets of one service."""

    members: Sequence[Member]
    method: Method = "round_robin"
    slow_start: float = 0.0
    """Seconds in which a target that came back gets up to its full share."""

    def takes(self, protocol: Protocol) -> bool:
        """Whether any target, up or down, has a port for such traffic."""
        return any(member.port(protocol) for member in self.members)

    def choose(
        self, protocol: Protocol, now: float, tried: Sequence[tuple[Member, str]] = ()
    ) -> tuple[Member, str] | None:
        """A target that is up, and the address to dial; None: there is none that was not ``tried`` for this connection.

        Other targets come first, then the other addresses of those that were tried.
        """
        able = [m for m in self.members if m.up and m.port(protocol) and m.addresses]
        if tried:
            before = [member for member, _ in tried]
            fresh = [member for member in able if member not in before]
            if not fresh:
                return next(_addresses_left(able, tried), None)
            able = fresh
        chosen = self._choose(able, now)
        address = chosen.next_address() if chosen is not None else None
        return None if chosen is None or address is None else (chosen, address)

    def _choose(self, able: Sequence[Member], now: float) -> Member | None:
        if len(able) < 2:
            return able[0] if able else None
        if self.method == "least_connections":
            loads = [(member.active + 1) / member.share(now, self.slow_start) for member in able]
            least = min(loads)
            # Turns among equals, so that an idle service does not get all connections at its first target.
            able = [member for member, load in zip(able, loads, strict=True) if load == least]
        return self._in_turn(able, now)

    def _in_turn(self, able: Sequence[Member], now: float) -> Member:
        """Smooth weighted round robin: each gains its share, the richest is taken and pays for all."""
        total = 0.0
        for member in able:
            share = member.share(now, self.slow_start)
            member._current += share
            total += share
        chosen = max(able, key=lambda m: m._current)
        chosen._current -= total
        return chosen


def _addresses_left(members: Sequence[Member], tried: Sequence[tuple[Member, str]]) -> Iterator[tuple[Member, str]]:
    """Addresses of ``members`` that were not tried, those of the member that was tried first first."""
    for member in dict.fromkeys(member for member, _ in tried):
        address = member.next_address([one for of, one in tried if of is member])
        if member in members and address is not None:
            yield member, address
