"""Messages between DNS plane and reconciler, however the bytes are cut."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway import update_channel
from tfgateway.errors import ParseError
from tfgateway.update_channel import (
    KeyAnswer,
    KeyQuestion,
    MessageReader,
    TransferAnswer,
    TransferQuestion,
    UpdateAnswer,
    UpdateQuestion,
    encode,
)

NUMBERS = st.integers(0, 2**32)
MESSAGES = st.one_of(
    st.builds(KeyQuestion, NUMBERS, st.text(max_size=50)),
    st.builds(KeyAnswer, NUMBERS, st.binary(max_size=32), st.booleans()),
    st.builds(UpdateQuestion, NUMBERS, st.text(max_size=50), st.binary(max_size=64), st.binary(max_size=300)),
    st.builds(UpdateAnswer, NUMBERS, st.integers(0, 23)),
    st.builds(TransferQuestion, NUMBERS, st.text(max_size=50), st.binary(max_size=255)),
    st.builds(TransferAnswer, NUMBERS, st.booleans()),
)


@given(st.lists(MESSAGES, max_size=5), st.data())
def test_byte_by_byte_and_in_any_pieces(messages: list[update_channel.Message], data: st.DataObject) -> None:
    raw = b"".join(map(encode, messages))
    reader, found = MessageReader(), []
    for byte in raw:
        found += reader.feed(bytes([byte]))
    assert found == messages
    reader, found, at = MessageReader(), [], 0
    while at < len(raw):
        size = data.draw(st.integers(1, len(raw) - at))
        found += reader.feed(raw[at : at + size])
        at += size
    assert found == messages


@given(st.binary(max_size=200))
def test_anything_else_ends_the_connection_or_waits(raw: bytes) -> None:
    with contextlib.suppress(ParseError):
        list(MessageReader().feed(raw))


def test_a_length_that_nobody_sends() -> None:
    with pytest.raises(ParseError, match="too long"):
        list(MessageReader().feed((update_channel.MAX_SIZE + 1).to_bytes(4, "big")))


def test_the_longest_message_of_dns_fits() -> None:
    message = UpdateQuestion(1, "7." + "a" * 44 + ".tfgateway.", bytes(64), bytes(65535))
    assert list(MessageReader().feed(encode(message))) == [message]
