"""The encryption of a backup: what was put in comes out, and nothing else ever does."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.backup import content, envelope
from tfgateway.backup.content import About, End, Head, KeyDump, Seed
from tfgateway.errors import CryptoError

PRIVATE = bytes(range(32))
PUBLIC = envelope.public_key(PRIVATE)


def sealed(*messages: bytes) -> bytes:
    sealer = envelope.Sealer(PUBLIC)
    frames = [sealer.frame(message, last=message is messages[-1]) for message in messages]
    return sealer.head + b"".join(frames)


def opened(raw: bytes, private: bytes = PRIVATE) -> list[bytes]:
    key = envelope.unwrap(io.BytesIO(raw).read, private)
    return list(envelope.messages(io.BytesIO(raw).read, key))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_what_was_put_in_comes_out(messages: list[bytes]) -> None:
    sealer = envelope.Sealer(PUBLIC)
    last = len(messages) - 1
    raw = sealer.head + b"".join(sealer.frame(each, last=n == last) for n, each in enumerate(messages))
    assert opened(raw) == messages


def test_two_backups_of_the_same_have_nothing_in_common() -> None:
    one, two = sealed(b"secret" * 10), sealed(b"secret" * 10)
    assert b"secret" not in one
    assert one[len(envelope.MAGIC) :] != two[len(envelope.MAGIC) :]


def test_only_the_operators_key_opens_it() -> None:
    with pytest.raises(CryptoError, match="another operator's key"):
        opened(sealed(b"x"), bytes(32))


def test_a_files_key_opens_that_file_alone() -> None:
    one, two = sealed(b"one"), sealed(b"two")
    key = envelope.unwrap(io.BytesIO(one).read, PRIVATE)
    with pytest.raises(CryptoError, match="another file's"):
        list(envelope.messages(io.BytesIO(two).read, key))


def test_wherever_it_is_cut_it_is_found_out() -> None:
    raw = sealed(b"one", b"two", b"")
    for size in range(len(raw)):
        with pytest.raises(CryptoError):
            opened(raw[:size])


@given(st.data())
def test_whatever_is_changed_is_found_out(data: st.DataObject) -> None:
    raw = bytearray(sealed(b"one", b"two", b"three"))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CryptoError):
        opened(bytes(raw))


def test_frames_that_are_moved_or_left_out_and_what_stands_behind_the_end_are_found_out() -> None:
    sealer = envelope.Sealer(PUBLIC)
    one, two, end = sealer.frame(b"one"), sealer.frame(b"two"), sealer.frame(b"", last=True)
    assert opened(sealer.head + one + two + end) == [b"one", b"two", b""]
    for wrong in (two + one + end, one + end, one + one + two + end, one + two + end + end):
        with pytest.raises(CryptoError):
            opened(sealer.head + wrong)


@pytest.mark.parametrize("text", ["", "x", "AAAA", "ä" * 44, "A" * 44, "!" * 44])
def test_a_wrong_key_is_said_without_being_repeated(text: str) -> None:
    with pytest.raises(CryptoError) as raised:
        envelope.decode_key(text)
    assert not text or text not in str(raised.value)


ABOUT, SEED = About("id", 1.5, "0.1.0"), Seed(b"\0" * 32)


def test_the_content_is_in_order() -> None:
    row = KeyDump(b"zone", b"\0\xff", 7)
    parts = [content.encode(part) for part in (ABOUT, SEED, row, End(1))]
    assert list(content.decode(parts)) == [Head(ABOUT, SEED), row]
    assert "\\x00" not in repr(Head(ABOUT, SEED))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [SEED, ABOUT, End(0)],
        [ABOUT, SEED],
        [ABOUT, SEED, End(1)],
        [ABOUT, SEED, End(0), End(0)],
        [ABOUT, SEED, ABOUT, End(0)],
    ],
)
def test_content_of_another_order_is_refused(parts: list[content.Part]) -> None:
    with pytest.raises(CryptoError):
        list(content.decode([content.encode(part) for part in parts]))


@given(st.binary())
def test_hostile_content_is_an_error_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(CryptoError):
        list(content.decode([raw]))
