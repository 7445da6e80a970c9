from __future__ import annotations

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.wire import names
from tfgateway.errors import ParseError

labels = st.lists(st.binary(min_size=1, max_size=63), max_size=5).filter(lambda some: sum(map(len, some)) < 240)


def wire(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


@given(labels)
def test_text_of_any_name_reads_back_as_dnspython_reads_it(parts: list[bytes]) -> None:
    name = wire(*parts)
    text = names.to_text(name)
    assert text.isascii() and text.decode().isprintable()
    assert names.from_text(text) == name
    assert dns.name.from_text(text.decode()).to_wire() == name


@given(labels)
def test_only_the_folded_text_is_a_key(parts: list[bytes]) -> None:
    name = wire(*parts)
    folded = names.fold(name)
    assert names.from_key(names.to_text(folded)) == folded
    if folded != name:
        with pytest.raises(ParseError):
            names.from_key(names.to_text(name))


@given(labels)
def test_folding_is_that_of_rfc4343(parts: list[bytes]) -> None:
    assert names.fold(wire(*parts)) == dns.name.Name([*parts, b""]).canonicalize().to_wire()


@given(st.binary(max_size=300))
def test_any_text_is_a_name_or_a_parse_error(text: bytes) -> None:
    for read in (names.from_text, names.from_key, lambda given: names.from_field(given, b"\x01z\0")):
        try:
            name = read(text)
        except ParseError:
            continue
        assert len(name) <= 255
        dns.name.from_wire(name, 0)


@pytest.mark.parametrize(
    "text",
    [b"", b".", b"a.", b".a", b"a..b", b"x" * 64, b".".join([b"abcdefg"] * 32), b"WWW", b"a\\", b"a\\1", b"a\\256"],
)
def test_field_that_is_no_name(text: bytes) -> None:
    with pytest.raises(ParseError):
        names.from_field(text, b"\x01z\0")


def test_two_ways_to_write_a_field_cannot_be_two_nodes_of_one_name() -> None:
    assert names.from_field(b"www", b"\0") == b"\x03www\0"
    for other in (b"\\119ww", b"\\www", "wéw".encode()):
        with pytest.raises(ParseError):
            names.from_field(other, b"\0")


def test_escaped_dot_is_part_of_a_label() -> None:
    assert names.from_field(b"a\\.b", b"\x01z\0") == b"\x03a.b\x01z\0"
    assert names.from_text(b"a\\\\.b.") == b"\x02a\\\x01b\0"


@pytest.mark.parametrize(
    ("name", "ancestor", "within"),
    [
        (b"\x01a\x01z\0", b"\x01z\0", True),
        (b"\x01z\0", b"\x01z\0", True),
        (b"\x01z\0", b"\0", True),
        (b"\0", b"\x01z\0", False),
        # The bytes of a label that look like a length and a label of their own.
        (b"\x03a\x01z\0", b"\x01z\0", False),
        (b"\x01y\0", b"\x01z\0", False),
    ],
)
def test_within_goes_by_labels(name: bytes, ancestor: bytes, *, within: bool) -> None:
    assert names.is_within(name, ancestor) is within


@given(st.binary(max_size=300), st.integers(0, 20))
def test_reading_from_a_message_ends_inside_it_or_is_a_parse_error(message: bytes, at: int) -> None:
    for read in (names.read, names.skip):
        try:
            end = read(message, at)
        except ParseError:
            continue
        assert at < end <= len(message)


def test_pointer_in_a_question_and_pointer_forwards_are_errors() -> None:
    with pytest.raises(ParseError):
        names.read(bytes(12) + b"\xc0\x0c", 12)
    for target in (b"\xc0\x04", b"\xc0\x0c", b"\xc0\x20"):
        with pytest.raises(ParseError):
            names.skip(bytes(12) + target + bytes(30), 12)
    assert names.skip(bytes(12) + b"\x01a\0\xc0\x0c", 15) == 17
