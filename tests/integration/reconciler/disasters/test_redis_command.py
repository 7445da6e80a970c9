"""`tfgateway redis`, and what `tfgateway state` says of planes that hold their copy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.marker import ANY, Marker, decode_marker, encode_marker

from tests.integration.reconciler.conftest import Fleet
from tests.support.waiting import until

Until = Callable[..., Any]


def rcode(fleet: Fleet) -> dns.rcode.Rcode:
    question = dns.message.make_query("www.gw1.example", "A")
    return dns.query.udp(question, "127.0.0.1", port=fleet.ports["dns"], timeout=30).rcode()


def write(fleet: Fleet, address: str) -> None:
    """As old programs do."""
    with fleet.redis() as client:
        client.hset("gw1.example.", "www", json.dumps({"a": [{"ip": address, "ttl": 60}]}))


@pytest.fixture
def emptied(fleet: Fleet) -> Any:
    """A gateway whose planes have seen what its reconciler, which does not run, had written; redis is empty."""
    with fleet.redis() as client:
        client.set(MARKER, encode_marker(Marker(fleet.node_id, "a" * 32, 50, 5)))
    write(fleet, "203.0.113.5")
    fleet.start("dns")
    fleet.start("proxy")
    assert rcode(fleet) == dns.rcode.NOERROR
    with fleet.redis() as client:
        client.flushall()
    return fleet


def test_state_names_each_plane_and_the_reason(emptied: Any) -> None:
    found = until(lambda: held(emptied.state()), "planes hold")
    assert [(one["plane"], one["implausible"]) for one in found["planes"]] == [("dns", "absent"), ("proxy", "absent")]
    assert not found["in_sync"]
    said = [text for text in found["problems"] if "has not followed redis" in text]
    assert [text.split()[0] for text in said] == ["dns", "proxy"]
    assert all("its data were lost" in text and "tfgateway redis accept" in text for text in said)
    assert rcode(emptied) == dns.rcode.NOERROR


def held(state: dict[str, Any]) -> dict[str, Any] | None:
    return state if all(one["implausible"] for one in state["planes"]) else None


@pytest.mark.parametrize("word", ["accept", "retire"])
def test_what_an_operator_says_is_followed_at_once(emptied: Any, word: str) -> None:
    done = emptied.run("redis", word)
    assert done.returncode == 0, done.stderr
    assert "the planes follow redis" in done.stdout
    until(lambda: rcode(emptied) == dns.rcode.REFUSED, "the empty redis is followed")
    said = decode_marker(emptied.get(MARKER))
    assert (said.node_id, said.previous, said.retired) == (emptied.node_id, ANY, word == "retire")
    write(emptied, "203.0.113.9")
    until(lambda: rcode(emptied) == dns.rcode.NOERROR, "what is written is served")
    with emptied.redis() as client:
        client.flushall()
    if word == "retire":
        until(lambda: rcode(emptied) == dns.rcode.REFUSED, "old programs may lose what they like")
    else:
        until(lambda: held(emptied.state()), "what is lost after that is lost")
        assert rcode(emptied) == dns.rcode.NOERROR


def test_without_redis_or_a_seed_nothing_is_said(fleet: Fleet) -> None:
    fleet.redis_server.stop()
    failed = fleet.run("redis", "accept")
    assert failed.returncode == 1
    assert "redis" in failed.stderr
