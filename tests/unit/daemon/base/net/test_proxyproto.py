"""The PROXY protocol: what we write, what we read, and what strangers may send instead."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.net.proxyproto import Addresses, Announced, encode, read

FOUR = Addresses("192.0.2.1", 56324, "203.0.113.7", 443)
SIX = Addresses("2001:db8::1", 1, "2001:db8::2", 65535)
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def test_t18_version_1_is_a_line() -> None:
    assert encode(1, FOUR) == b"PROXY TCP4 192.0.2.1 203.0.113.7 56324 443\r\n"
    assert encode(1, SIX) == b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"


def test_t18_version_2_is_binary() -> None:
    assert encode(2, FOUR) == SIGNATURE + bytes.fromhex("21 11 000c c0000201 cb007107 dc04 01bb")
    assert encode(2, SIX)[:16] == SIGNATURE + bytes.fromhex("21 21 0024")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("addresses", [FOUR, SIX])
def test_what_was_written_is_read_whatever_the_pieces(version: int, addresses: Addresses) -> None:
    header = encode(version, addresses)
    for cut in range(len(header)):
        assert read(header[:cut]) is None
    assert read(header) == Announced(addresses, len(header))
    assert read(header + b"GET / HTTP/1.1\r\n") == Announced(addresses, len(header))


@pytest.mark.parametrize("version", [1, 2])
def test_ipv4_inside_ipv6_is_ipv4(version: int) -> None:
    """A balancer with one socket for both announces it so; allow-lists, limits and targets know the visitor as IPv4."""
    header = encode(version, Addresses("::ffff:192.0.2.1", 56324, "::ffff:203.0.113.7", 443))
    assert b"TCP6" in header or header[13] == 0x21
    assert read(header) == Announced(FOUR, len(header))


@pytest.mark.parametrize("version", [1, 2])
def test_one_end_inside_ipv6_is_ipv4_as_well(version: int) -> None:
    mixed = Addresses("::ffff:198.51.100.9", 1234, "2001:db8::2", 80)
    found = read(encode(version, mixed))
    assert found is not None
    assert found.addresses == Addresses("198.51.100.9", 1234, "2001:db8::2", 80)
    # The header for a target has one family: nothing of it is lost.
    assert read(encode(version, found.addresses)) == found


def test_the_announced_line_of_a_balancer_with_one_socket() -> None:
    line = b"PROXY TCP6 ::ffff:198.51.100.9 ::ffff:203.0.113.1 1234 80\r\n"
    assert read(line) == Announced(Addresses("198.51.100.9", 1234, "203.0.113.1", 80), len(line))


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n",
        SIGNATURE + b"\x20\x00\x00\x00",  # LOCAL: a health check
        SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x31\x00\x03abc",  # a unix socket
    ],
)
def test_a_sender_may_speak_for_himself(header: bytes) -> None:
    assert read(header + b"x") == Announced(None, len(header))


def test_more_than_the_addresses_is_passed_over() -> None:
    header = encode(2, FOUR)
    longer = header[:14] + (12 + 5).to_bytes(2) + header[16:] + b"\x04\x00\x02ab"
    assert read(longer + b"x") == Announced(FOUR, len(longer))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.1 203.0.113.7 1 65536\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.7 1 2\n",
        b"PROXY " + b"x" * 101,
        SIGNATURE + b"\x11\x11\x00\x00",
        SIGNATURE + b"\x22\x11\x00\x00",
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x11\xff\xff",
        b"\r\n\r\nGET /",
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        read(data)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda rest: SIGNATURE + b"\x21\x11" + rest))
@example(b"")
@example(b"PROXY TCP4 " + b"1" * 90)
def test_random_bytes_are_a_header_more_or_an_error(data: bytes) -> None:
    try:
        found = read(data)
    except ParseError:
        return
    assert found is None or 0 < found.length <= len(data)


@given(st.integers(0, 200), st.integers(0, 255), st.sampled_from([1, 2]), st.sampled_from([FOUR, SIX]))
def test_mutated_headers_are_a_header_more_or_an_error(at: int, octet: int, version: int, addresses: Addresses) -> None:
    data = bytearray(encode(version, addresses))
    data[at % len(data)] = octet
    try:
        found = read(bytes(data))
    except ParseError:
        return
    assert found is None or 0 < found.length <= len(data)
