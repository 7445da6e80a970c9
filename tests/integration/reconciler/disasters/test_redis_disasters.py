"""Redis loses its data, or gets others, while a gateway is asked for everything: nobody gets a wrong answer.

All of them, with and without reconciler and with restarted planes: ``tests/long/test_redis_disasters.py``.
"""

from __future__ import annotations

import sys
import time

import dns.message
import dns.query
import dns.rcode
import pytest
from tfgateway.explorer.models import Subdomain
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.marker import Marker, read_marker

from tests.integration.reconciler.conftest import Fleet
from tests.support import disasters
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("what", "reconciler", "restart"),
    [("FLUSHALL", True, False), ("SWAPDB", False, True)],
)
def test_nobody_gets_a_wrong_answer(served_node: disasters.Node, what: str, *, reconciler: bool, restart: bool) -> None:
    row = disasters.run(served_node, what, reconciler=reconciler, restart=restart)
    sys.stdout.write(f"{row}\n")
    assert served_node.load.wrong == 0, [row, *served_node.load.examples]
    assert served_node.load.counts["queries"] > 200
    assert served_node.load.counts["visits"] > 20
    if not restart:
        assert served_node.load.counts["queries lost"] + served_node.load.counts["visits lost"] == 0, row


def test_a_removal_of_many_that_an_operator_allowed_is_served_at_once(fleet: Fleet) -> None:
    """The planes do not judge by what is missing: it is the same data set, later."""
    guarded = {"max_removal_count": 1, "max_removal_share": 0.1}
    reconciler = fleet.start(**guarded)
    *names, kept = [f"n{number}.gw1.example" for number in range(7)]
    numbers = [
        fleet.reserve(Subdomain(domain=name, ips=("203.0.113.5",), node_id=fleet.node_id)) for name in (*names, kept)
    ]
    for number in numbers:
        fleet.deployed(number)
    until(lambda: _full_passes(fleet) > 0, "a full pass is noted")
    plane = fleet.start("dns")
    assert [_rcode(fleet, name) for name in names] == [dns.rcode.NOERROR] * 6
    reconciler.stop()
    for number in numbers[:-1]:
        fleet.delete(number)
    fleet.start(**guarded).wait_log("removals held back")
    assert [_rcode(fleet, name) for name in names] == [dns.rcode.NOERROR] * 6
    assert fleet.run("reconcile", "--allow-removals", **guarded).returncode == 0
    until(lambda: not any(fleet.get("gw1.example.", f"n{number}") for number in range(6)), "all are removed")
    removed = time.monotonic()
    until(lambda: [_rcode(fleet, name) for name in names] == [dns.rcode.NXDOMAIN] * 6, "nothing is served any more")
    assert time.monotonic() - removed < 5
    assert _rcode(fleet, kept) == dns.rcode.NOERROR
    assert "implausible" not in plane.log


def _full_passes(fleet: Fleet) -> int:
    found = read_marker(fleet.get(MARKER) or b"")
    return found.passes if isinstance(found, Marker) else 0


def _rcode(fleet: Fleet, name: str) -> dns.rcode.Rcode:
    question = dns.message.make_query(name, "A")
    return dns.query.udp(question, "127.0.0.1", port=fleet.ports["dns"], timeout=30).rcode()
