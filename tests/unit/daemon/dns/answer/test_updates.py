"""Messages that take the reconciler to answer: which they are, and what is wrong with them before it is asked."""

from __future__ import annotations

import contextlib

import dns.message
import dns.rcode
import dns.tsig
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.updates import SignedUpdate, is_signed, needs_reconciler, user_key, with_key
from tfgateway.dns.wire import names
from tfgateway.dns.wire.query import Unanswerable, read

NAME = f"7.{'a' * 43}.tfgateway."
SECRET, CLIENT, NOW = bytes(range(32)), bytes([192, 0, 2, 1]), 1_700_000_000


def update(name: str = NAME, algorithm: str = "hmac-sha256", secret: bytes = SECRET) -> bytes:
    message = dns.update.UpdateMessage("alice.example", keyring=dns.tsig.Key(name, secret, algorithm))
    message.add("x", 60, "TXT", "x")
    return message.to_wire()


def options_for(message: bytes) -> ServerOptions:
    query = read(message)
    key = user_key(message, query)
    if key is None or query.tsig_at is None:
        return ServerOptions()
    return with_key(ServerOptions(), message, query.tsig_at, key, SECRET)


def answered(message: bytes) -> dns.message.Message:
    signed = SignedUpdate(message, CLIENT, _time_of(message), options_for(message), "udp", QueryCounters())
    return dns.message.from_wire(signed.reply().message, keyring=False)


def _time_of(message: bytes) -> int:
    parsed = dns.message.from_wire(message, keyring=False)
    return parsed.tsig[0].time_signed if parsed.tsig else NOW


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "hmac-sha512"])
def test_one_that_is_to_be_carried_out(algorithm: str) -> None:
    message = update(algorithm=algorithm)
    assert needs_reconciler(message)
    assert user_key(message, read(message)) == names.from_text(NAME.encode())
    signed = SignedUpdate(message, CLIENT, _time_of(message), options_for(message), "tcp", QueryCounters())
    assert signed.mac is not None
    assert len(signed.mac) == (32 if algorithm == "hmac-sha256" else 64)


def test_one_that_is_not() -> None:
    assert answered(update(secret=bytes(32))).rcode() == dns.rcode.NOTAUTH
    assert answered(update(algorithm="hmac-sha1")).rcode() == dns.rcode.NOTAUTH
    unsigned = dns.update.UpdateMessage("alice.example")
    unsigned.add("x", 60, "TXT", "x")
    assert answered(unsigned.to_wire()).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(
    "name", ["7.tfgateway.", f"x.{'a' * 43}.tfgateway.", f"7.{'a' * 42}.tfgateway.", f"1.{NAME}", "secondary."]
)
def test_names_that_no_user_has(name: str) -> None:
    """The reconciler is not asked for them."""
    message = update(name)
    assert user_key(message, read(message)) is None
    assert answered(message).rcode() == dns.rcode.NOTAUTH


def test_a_key_whose_name_is_compressed() -> None:
    """RFC 8945 §4.2: it must not be."""
    message = update()
    at = read(message).tsig_at
    assert at is not None
    end = names.read(message, at)
    pointed = message[:at] + b"\xc0\x0c" + message[end:]
    assert user_key(pointed, read(pointed)) is None
    reply = SignedUpdate(pointed, CLIENT, NOW, options_for(pointed), "udp", QueryCounters()).reply()
    assert reply.message[3] & 15 == dns.rcode.FORMERR


def test_a_signature_is_verified_before_a_zone_is_copied() -> None:
    good, bad = update(), update(secret=bytes(32))
    for message, expected in ((good, True), (bad, False)):
        at = read(message).tsig_at
        assert at is not None
        assert is_signed(options_for(message), message, at, _time_of(message)) is expected


def test_ordinary_queries_are_none_of_them() -> None:
    assert not needs_reconciler(dns.message.make_query("www.tfgateway.example", "A").to_wire())
    assert not needs_reconciler(b"")
    signed = dns.message.make_query("www.z", "SOA")
    signed.use_tsig(dns.tsig.Key(NAME, SECRET))
    assert needs_reconciler(signed.to_wire())


@given(st.data())
def test_whatever_is_done_to_one_it_is_answered_or_dropped(data: st.DataObject) -> None:
    message = bytearray(update())
    for _ in range(data.draw(st.integers(0, 6))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(message[: data.draw(st.integers(0, len(message)))] or message)
    needs_reconciler(raw)
    with contextlib.suppress(Unanswerable):
        reply = SignedUpdate(raw, CLIENT, NOW, options_for(raw), "udp", QueryCounters()).reply()
        assert reply.message[:2] == raw[:2]
