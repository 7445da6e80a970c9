"""The ClientHello parser: real hellos of OpenSSL, made ones, and rubbish, in every kind of piece."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.proxy.parse.clienthello import MAX_HELLO, ClientHello, ClientHelloParser, read_usual_hello

from tests.support.tls import client_hello

NEED_MORE = "need more"
BAD = "bad"


def outcome(chunks: Iterable[bytes]) -> ClientHello | str:
    """What the parser says of these chunks. Anything but its three answers fails the test."""
    parser = ClientHelloParser()
    try:
        for chunk in chunks:
            hello = parser.feed(chunk)
            if hello is not None:
                return hello
    except ParseError:
        return BAD
    return NEED_MORE


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def record(fragment: bytes, kind: int = 22, version: int = 0x0301) -> bytes:
    return struct.pack("!BHH", kind, version, len(fragment)) + fragment


def in_records(message: bytes, size: int) -> bytes:
    """A handshake message cut into records of ``size`` octets."""
    return b"".join(record(message[i : i + size]) for i in range(0, len(message), size))


def vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width) + content


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(2, data)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes((kind,)) + vector(2, name) for name in names)))


def message(*extensions: bytes, suites: bytes = b"\x13\x01", session: bytes = b"", compression: bytes = b"\0") -> bytes:
    """A ClientHello handshake message with these extensions."""
    body = b"\x03\x03" + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, compression)
    if extensions:
        body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body)


SIMPLE = message(server_name(b"web.example"))
GREASE = extension(0x0A0A, b"")
OTHER_GREASE = extension(0xFAFA, b"\0")


@pytest.mark.parametrize("tls12", [False, True])
@pytest.mark.parametrize(
    ("name", "protocols", "expected"),
    [
        ("Web.Example", None, ClientHello("web.example")),
        ("web.example", ["h2", "http/1.1"], ClientHello("web.example")),
        ("web.example", ["acme-tls/1"], ClientHello("web.example")),
        (None, None, ClientHello("")),
        (None, ["h2"], ClientHello("")),
        ("bücher.example", None, ClientHello("xn--bcher-kva.example")),
    ],
)
def test_t7_hello_of_openssl_split_at_every_byte(
    name: str | None, protocols: list[str] | None, expected: ClientHello, tls12: bool
) -> None:
    hello = client_hello(name, protocols, tls12=tls12)
    assert outcome([hello]) == expected
    assert outcome(bytewise(hello)) == expected
    for cut in range(1, len(hello)):
        assert outcome([hello[:cut]]) == NEED_MORE
        assert outcome([hello[:cut], hello[cut:]]) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 511])
def test_t7_hello_of_openssl_in_several_records(size: int) -> None:
    hello = client_hello("web.example", ["h2"])
    cut = in_records(hello[5:], size)
    assert outcome([cut]) == ClientHello("web.example")
    assert outcome(bytewise(cut)) == ClientHello("web.example")


def test_t7_large_hello_of_openssl() -> None:
    """Two thousand protocols make 16 KiB: OpenSSL itself spreads it over records, far above the old 4091 octets."""
    hello = client_hello("web.example", [f"proto-{number:04}" for number in range(1500)])
    assert len(hello) > 16384 + 5
    found = outcome([hello])
    assert isinstance(found, ClientHello)
    assert found.server_name == "web.example"
    assert outcome(bytewise(hello)) == found


def test_t7_post_quantum_key_share_and_many_extensions() -> None:
    key_share = extension(51, vector(2, struct.pack("!H", 0x11EC) + vector(2, bytes(1216))))
    hello = in_records(
        message(
            GREASE,
            key_share,
            *(extension(1000 + i, b"x" * 90) for i in range(400)),
            server_name(b"web.example"),
            OTHER_GREASE,
            extension(21, bytes(500)),
        ),
        16384,
    )
    assert len(hello) > 38000
    assert outcome([hello]) == ClientHello("web.example")


def test_t7_the_limit_is_64_kib_with_record_headers() -> None:
    def hello(size: int) -> bytes:
        empty = len(in_records(message(server_name(b"web.example"), extension(21, b"")), 16384))
        headers = 5 * 3  # three more records
        return in_records(message(server_name(b"web.example"), extension(21, bytes(size - empty - headers))), 16384)

    assert len(hello(MAX_HELLO)) == MAX_HELLO
    assert outcome([hello(MAX_HELLO)]) == ClientHello("web.example")
    assert outcome([hello(MAX_HELLO)[:-1]]) == NEED_MORE
    assert outcome([hello(MAX_HELLO + 1)]) == BAD
    assert outcome(bytewise(hello(MAX_HELLO + 1))) == BAD


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"\x16\x03\x01\x00\x04\x01\x01\x00\x00", id="says 64 KiB"),
        pytest.param(in_records(b"\x01\x00\xff\x00" + bytes(60000), 1), id="records of one octet"),
    ],
)
def test_t7_what_cannot_fit_is_refused(stream: bytes) -> None:
    assert outcome([stream]) == BAD
    assert outcome(bytewise(stream)) == BAD


def test_bytes_after_the_hello_are_kept_and_not_read() -> None:
    stream = record(SIMPLE) + b"\x17\x03\x03early data"
    parser = ClientHelloParser()
    assert parser.feed(stream) == ClientHello("web.example")
    assert parser.received == stream


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        pytest.param(message(), ClientHello(""), id="no extensions at all"),
        pytest.param(message(GREASE, OTHER_GREASE), ClientHello(""), id="only GREASE"),
        pytest.param(
            message(GREASE, server_name(b"web.example"), suites=b"\x1a\x1a\x13\x01"),
            ClientHello("web.example"),
            id="GREASE everywhere",
        ),
        pytest.param(message(server_name(b"192.0.2.1")), ClientHello("192.0.2.1"), id="IPv4 literal"),
        pytest.param(message(server_name(b"2001:DB8::1")), ClientHello("2001:db8::1"), id="IPv6 literal"),
        pytest.param(message(server_name(b"web.example.")), ClientHello("web.example"), id="final dot"),
        pytest.param(message(server_name(b"x", kind=7)), ClientHello(""), id="unknown name type"),
        pytest.param(
            message(server_name(b"outer.example"), extension(0xFE0D, bytes(300))),
            ClientHello("outer.example"),
            id="ECH: the outer name",
        ),
        pytest.param(message(server_name(b"web.example"), session=bytes(32)), ClientHello("web.example"), id="id"),
        pytest.param(
            message(server_name(b"web.example"), extension(16, b"\0\1\0")),
            ClientHello("web.example"),
            id="an empty protocol: a matter of the target",
        ),
        pytest.param(
            message(extension(16, b"\0\x09x"), server_name(b"web.example")),
            ClientHello("web.example"),
            id="a list of protocols that is longer than its extension",
        ),
    ],
)
def test_well_formed_hello(hello: bytes, expected: ClientHello) -> None:
    assert outcome([record(hello)]) == expected
    assert outcome(bytewise(record(hello))) == expected


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"GET / HTTP/1.1\r\n", id="plain HTTP"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28", id="alert"),
        pytest.param(b"\x16\x02\x00\x00\x05hello", id="wrong major version"),
        pytest.param(b"\x16\x03\x01\x00\x00", id="empty record"),
        pytest.param(b"\x16\x03\x01\x40\x01", id="record above 2^14"),
        pytest.param(record(b"\x02" + SIMPLE[1:]), id="a ServerHello"),
        pytest.param(record(SIMPLE[:50]) + record(b"\x01", kind=20), id="another record in between"),
        pytest.param(record(message(server_name(b""))), id="empty name"),
        pytest.param(record(message(extension(0, b""))), id="empty server_name"),
        pytest.param(record(message(extension(0, vector(2, b"")))), id="empty list of names"),
        pytest.param(record(message(extension(0, vector(2, b"\0\0\1a") + b"x"))), id="bytes after the list"),
        pytest.param(record(message(extension(0, b"\0\x09\0\0\1a"))), id="list longer than the extension"),
        pytest.param(record(message(server_name(b"a.example", b"b.example"))), id="two names"),
        pytest.param(record(message(server_name(b"a.example"), server_name(b"b.example"))), id="two server_name"),
        pytest.param(record(message(server_name(b"a\0.example"))), id="NUL in the name"),
        pytest.param(record(message(server_name(b"b\xc3\xbccher.example"))), id="UTF-8 name"),
        pytest.param(record(message(server_name(b"a" * 256))), id="name too long"),
        pytest.param(record(message(session=bytes(33))), id="long session id"),
        pytest.param(record(message(suites=b"")), id="no cipher suites"),
        pytest.param(record(message(suites=b"\x13\x01\x13")), id="half a cipher suite"),
        pytest.param(record(message(compression=b"")), id="no compression method"),
        pytest.param(record(b"\x01" + vector(3, SIMPLE[4:] + b"x")), id="bytes after the extensions"),
        pytest.param(record(b"\x01" + vector(3, SIMPLE[4:-1])), id="cut short"),
        pytest.param(record(b"\x01\0\0\0"), id="empty hello"),
    ],
)
def test_t7_a_bad_hello_is_a_parse_error(stream: bytes) -> None:
    assert outcome([stream]) == BAD
    assert outcome(bytewise(stream)) == BAD


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Rubbish, or a hello that was cut into records and then damaged, with something behind it."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    names = draw(st.lists(st.binary(min_size=1, max_size=30) | st.just(b"web.example"), max_size=2))
    hello = message(
        server_name(*names), *draw(st.lists(st.builds(extension, st.integers(0, 60), st.binary(max_size=9))))
    )
    stream = bytearray(in_records(hello, draw(st.integers(1, 400))) + draw(st.binary(max_size=20)))
    for position in draw(st.lists(st.integers(0, len(stream) - 1), max_size=3)):
        stream[position] = draw(st.integers(0, 255))
    return bytes(stream[: draw(st.integers(0, len(stream)))] if draw(st.booleans()) else stream)


@settings(max_examples=3 * settings.default.max_examples)
@given(streams(), st.lists(st.integers(0, 500), max_size=8))
def test_t7_three_answers_whatever_the_pieces(stream: bytes, cuts: list[int]) -> None:
    whole = outcome([stream])
    assert outcome(bytewise(stream)) == whole
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert outcome(stream[start:end] for start, end in itertools.pairwise(edges)) == whole


@settings(max_examples=3 * settings.default.max_examples)
@given(streams())
def test_t7_the_quick_way_says_what_the_slow_way_says(stream: bytes) -> None:
    try:
        quick = read_usual_hello(stream) or NEED_MORE
    except ParseError:
        quick = BAD
    assert quick in (NEED_MORE, outcome([stream]))


def test_the_quick_way_takes_what_openssl_sends() -> None:
    assert read_usual_hello(client_hello("web.example", ["h2"])) == ClientHello("web.example")
