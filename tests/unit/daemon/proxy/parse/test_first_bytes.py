"""What a connection sends first: PROXY header, ClientHello, HTTP head, and rubbish, in every kind of piece."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfgateway.net import proxyproto
from tfgateway.net.proxyproto import Addresses
from tfgateway.proxy import refusals
from tfgateway.proxy.parse.first_bytes import FirstBytes, Request
from tfgateway.proxy.parse.httphead import MAX_HEAD
from tfgateway.proxy.protocol import HTTP, TLS, Protocol
from tfgateway.proxy.refusals import Refusal, Refused

from tests.support.tls import client_hello

ADDRESSES = Addresses("192.0.2.1", 1234, "198.51.100.1", 443)
HEADERS = [proxyproto.encode(version, ADDRESSES) for version in (1, 2)]
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
HEAD = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"


HELLO = client_hello("web.example")


class Outcome(NamedTuple):
    """What became of a stream."""

    addresses: Addresses | None
    request: tuple[Protocol, str, str] | Refusal | None
    """None: more is needed."""
    speaks: Protocol | None
    data: bytes
    """What the target gets."""
    fed: int
    """Octets that it took to know."""


def outcome(chunks: Iterable[bytes], listener: Protocol, *, after_header: bool = False) -> Outcome:
    """Feed the chunks until the reader knows. Anything but its four answers fails the test."""
    reader = FirstBytes(listener, after_header=after_header)
    addresses = None
    fed = 0
    try:
        for chunk in chunks:
            fed += len(chunk)
            found = reader.feed(chunk)
            if isinstance(found, Addresses):
                assert addresses is None, "a second PROXY header"
                addresses = found
                found = reader.feed(b"")
            if found is not None:
                assert isinstance(found, Request)
                known = found.protocol, found.method, found.host
                return Outcome(addresses, known, reader.speaks, found.data, fed)
    except Refused as why:
        return Outcome(addresses, why.refusal, reader.speaks, b"", fed)
    return Outcome(addresses, None, reader.speaks, b"", fed)


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


@pytest.mark.parametrize(
    ("stream", "listener", "request_", "speaks"),
    [
        pytest.param(HEAD, HTTP, (HTTP, "GET", "web.example"), HTTP, id="HTTP"),
        pytest.param(HELLO, TLS, (TLS, "", "web.example"), TLS, id="TLS"),
        pytest.param(HEAD, TLS, (HTTP, "", ""), None, id="no TLS on the TLS port"),
        pytest.param(HELLO, HTTP, refusals.BAD_REQUEST, HTTP, id="TLS on the plain port"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", HTTP, refusals.VERSION_NOT_SUPPORTED, HTTP, id="version"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\n\r\n", HTTP, refusals.NOT_IMPLEMENTED, HTTP, id="CONNECT"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\n", HTTP, refusals.HTTP2_PREFACE, HTTP, id="HTTP/2"),
        pytest.param(b"GET /\r\n\r\n", HTTP, refusals.BAD_REQUEST, HTTP, id="HTTP/0.9"),
        pytest.param(b"x" * MAX_HEAD, HTTP, refusals.HEAD_TOO_LARGE, HTTP, id="too large"),
        pytest.param(b"\x16\x03\x01\x00\x00", TLS, refusals.BAD_REQUEST, TLS, id="an empty record"),
    ],
)
def test_what_is_asked_for_or_why_it_is_refused(
    stream: bytes, listener: Protocol, request_: tuple[Protocol, str, str] | Refusal, speaks: Protocol | None
) -> None:
    for chunks in ([stream], bytewise(stream)):
        known = outcome(chunks, listener)
        assert (known.request, known.speaks) == (request_, speaks)
        assert known.data == (stream[: known.fed] if isinstance(request_, tuple) else b"")


@pytest.mark.parametrize("stream", [HEAD, HELLO])
def test_before_the_last_octet_more_is_needed(stream: bytes) -> None:
    listener = HTTP if stream is HEAD else TLS
    for end in range(len(stream)):
        assert outcome([stream[:end]], listener).request is None
    assert outcome([], listener).speaks is None
    assert outcome([stream[:1]], listener).speaks is listener


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(("stream", "listener"), [(HEAD, HTTP), (HELLO, TLS)])
def test_t18_a_proxy_header_is_taken_off(header: bytes, stream: bytes, listener: Protocol) -> None:
    for chunks in ([header + stream], [header, stream], bytewise(header + stream)):
        known = outcome(chunks, listener, after_header=True)
        assert known.addresses == ADDRESSES
        assert known.request == outcome([stream], listener).request
        assert known.data == stream


def test_t18_the_addresses_are_known_before_the_request() -> None:
    """So that the limits of the source apply at once."""
    reader = FirstBytes(HTTP, after_header=True)
    assert reader.feed(HEADERS[0][:-1]) is None
    assert reader.feed(HEADERS[0][-1:] + HEAD[:5]) == ADDRESSES
    assert reader.speaks is None
    assert reader.feed(b"") is None
    assert reader.feed(HEAD[5:]) == Request(HTTP, "GET", "web.example", HEAD)


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_t18_a_header_without_addresses_says_nothing(header: bytes) -> None:
    for chunks in ([header + HEAD], [header, HEAD], bytewise(header + HEAD)):
        known = outcome(chunks, HTTP, after_header=True)
        assert (known.addresses, known.request, known.data) == (None, (HTTP, "GET", "web.example"), HEAD)


@pytest.mark.parametrize("stream", [HEAD, HELLO, b"PROXY TCP4 a b 1 2\r\n", b"PROXY " + b"x" * 200])
def test_t18_whoever_is_trusted_has_to_send_a_header(stream: bytes) -> None:
    assert outcome([stream], HTTP, after_header=True).request is refusals.BAD_PROXY_HEADER
    assert outcome(bytewise(stream), HTTP, after_header=True).request is refusals.BAD_PROXY_HEADER


@pytest.mark.parametrize(("stream", "listener"), [(HEAD, HTTP), (HELLO, TLS)])
def test_a_reader_that_is_done_keeps_nothing(stream: bytes, listener: Protocol) -> None:
    """A connection is relayed for days, and there are many."""
    reader = FirstBytes(listener, after_header=True)
    assert isinstance(reader.feed(HEADERS[1]), Addresses)
    for piece in bytewise(stream):
        reader.feed(piece)
    kept = {slot: getattr(reader, slot) for slot in FirstBytes.__slots__}
    assert not [slot for slot, value in kept.items() if value and slot not in ("speaks", "_listener")]


def test_discarded_bytes_are_forgotten() -> None:
    reader = FirstBytes(HTTP)
    assert reader.feed(HEAD[:20]) is None
    reader.discard()
    assert reader.feed(HEAD) == Request(HTTP, "GET", "web.example", HEAD)


_PIECES = st.sampled_from(
    [
        *(HEAD, HELLO, *HEADERS, LOCAL, b"PROXY UNKNOWN\r\n", b"PROXY TCP4 1.2.3.4 "),
        *(
            b"GET / HTTP/1.1",
            b"Host: a",
            b"\r\n",
            b"\r\n\r\n",
            b"PRI * HTTP/2.0",
            b"\x16\x03\x01\x00\x05",
            b"\x01",
            b"\0",
        ),
    ]
)


@st.composite
def _streams(draw: st.DrawFn) -> bytes:
    """Well-formed parts one after the other, one octet of them changed at times, or any bytes."""
    stream = bytearray(draw(st.lists(_PIECES, max_size=5).map(b"".join) | st.binary(max_size=100)))
    if stream and draw(st.booleans()):
        stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    return bytes(stream)


@settings(max_examples=3 * settings.default.max_examples)
@given(_streams(), st.sampled_from(Protocol), st.booleans(), st.lists(st.integers(0, 1000), max_size=8))
def test_the_same_answer_whatever_the_pieces(
    stream: bytes, listener: Protocol, after_header: bool, cuts: list[int]
) -> None:
    """The fuzz target: as a whole, octet by octet, and cut anywhere."""
    whole = outcome([stream], listener, after_header=after_header)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for chunks in (bytewise(stream), (stream[start:end] for start, end in itertools.pairwise(edges))):
        pieces = outcome(chunks, listener, after_header=after_header)
        assert pieces[:3] == whole[:3]
        assert whole.data.startswith(pieces.data)
        if pieces.data:  # nothing that was fed is lost
            assert pieces.data == stream[: pieces.fed][-len(pieces.data) :]
