"""Which connection gives way."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.server.connections import Connections


@dataclass(eq=False)
class Conn:
    text: str
    idle_until: float | None = 1.0
    answered: int = 1

    @property
    def address(self) -> bytes:
        return ipaddress.ip_address(self.text).packed


def evicted(*connections: Conn, limit: int) -> list[Conn]:
    """What has to go for another one."""
    made: Connections[Conn] = Connections(limit)
    for one in connections:
        made.add(one)
    return made.make_room()


def test_the_network_that_has_most_gives_way_however_its_sources_are_spread() -> None:
    others = [Conn("192.0.2.1"), Conn("198.51.100.1"), Conn("2001:db8:9::1"), Conn("2001:db8:9:100::1")]
    for spread in (
        [f"2001:db8::{number}" for number in range(1, 5)],  # one /64
        [f"2001:db8:0:{number}::1" for number in range(4)],  # one /56
        [f"2001:db8:0:{number}00::1" for number in range(4)],  # one /48
        [f"203.0.113.{number}" for number in range(4)],  # one /24
    ):
        many = [Conn(text) for text in spread]
        assert evicted(*others, *many, limit=9) == []
        for order in ((*others, *many), (*many, *others)):
            (one,) = evicted(*order, limit=8)
            assert one in many


def test_within_it_the_smaller_network_that_has_most() -> None:
    few = [Conn("2001:db8:0:1::1"), Conn("2001:db8:0:2::1")]
    most = [Conn("2001:db8:0:100::1"), Conn("2001:db8:0:100::2"), Conn("2001:db8:0:101::1")]
    (one,) = evicted(*few, *most, limit=5)
    assert one in most[:2]


def test_idle_first_then_who_has_not_asked_yet_then_who_is_being_answered() -> None:
    busy = Conn("192.0.2.1", None)
    waits, longer = Conn("192.0.2.2", 9.0), Conn("192.0.2.3", 8.0)
    new, newer = Conn("192.0.2.4", 1.0, 0), Conn("192.0.2.5", 2.0, 0)
    assert evicted(busy, newer, waits, new, longer, limit=1) == [longer, waits, new, newer, busy]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(0, 3)), max_size=60))
def test_counts_are_those_of_the_connections(steps: list[tuple[bool, int, int]]) -> None:
    """Whatever comes and goes; nothing is kept of what has gone."""
    found: Connections[Conn] = Connections(60)
    there: list[Conn] = []
    for six, network, host in steps:
        if host == 3 and there:
            gone = there.pop(network % len(there))
            found.discard(gone)
            found.discard(gone)
        else:
            there.append(Conn(f"2001:db8:0:{network}::{host}" if six else f"192.0.{network}.{host}"))
            found.add(there[-1])
        assert len(found) == len(there)
        for one in there:
            same = [
                other
                for other in there
                if (other.address[:8] == one.address[:8] if len(one.address) == 16 else other.address == one.address)
            ]
            assert found.of(one.address) == len(same)
    for one in there:
        found.discard(one)
    assert len(found) == 0
    assert not found._shares._root.networks
