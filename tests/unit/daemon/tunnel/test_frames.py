"""Frames and the handshake: exact octets of the specification, any split, any garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.tunnel.handshake import MAX_SECRET, HandshakeParser, encode_handshake
from tfgateway.tunnel.yamux.frames import HEADER_SIZE, Flag, Frame, FrameReader, Kind, Payload, encode

SECRET = b"7:s3cr3t-tunnel-key"
HANDSHAKE = "11110013373a7333637233742d74756e6e656c2d6b6579"

VECTORS = [
    ("open stream 1", Kind.WINDOW_UPDATE, Flag.SYN, 1, 0, "000100010000000100000000"),
    ("FIN on stream 1", Kind.WINDOW_UPDATE, Flag.FIN, 1, 0, "000100040000000100000000"),
    ("accept stream 1", Kind.WINDOW_UPDATE, Flag.ACK, 1, 0, "000100020000000100000000"),
    ("open stream 2", Kind.WINDOW_UPDATE, Flag.SYN, 2, 0, "000100010000000200000000"),
    ("accept stream 2", Kind.WINDOW_UPDATE, Flag.ACK, 2, 0, "000100020000000200000000"),
    ("grant", Kind.WINDOW_UPDATE, 0, 2, 131072, "000100000000000200020000"),
    ("reset stream 2", Kind.WINDOW_UPDATE, Flag.RST, 2, 0, "000100080000000200000000"),
    ("ping", Kind.PING, Flag.SYN, 0, 0, "000200010000000000000000"),
    ("pong", Kind.PING, Flag.ACK, 0, 0, "000200020000000000000000"),
    ("go away", Kind.GO_AWAY, 0, 0, 1, "000300000000000000000001"),
]

numbers = st.integers(0, 2**32 - 1)
headers = st.tuples(
    st.sampled_from(Kind).filter(lambda kind: kind is not Kind.DATA), st.integers(0, 15), numbers, numbers
)
data_frames = st.tuples(st.integers(0, 15), numbers, st.binary(max_size=300))


def read(reader: FrameReader, data: bytes) -> list[Frame | Payload]:
    return list(reader.feed(memoryview(data)))


def joined(items: list[Frame | Payload]) -> list[Frame | tuple[int, bytes]]:
    """Frames as they are, pieces of one payload as one."""
    found: list[Frame | tuple[int, bytes]] = []
    for item in items:
        if isinstance(item, Frame):
            found.append(item)
        elif isinstance(found[-1], Frame):
            found.append((item.stream, bytes(item.data)))
        else:
            found[-1] = (item.stream, found[-1][1] + bytes(item.data))
    return found


@pytest.mark.parametrize(("kind", "flags", "stream", "length", "octets"), [vector[1:] for vector in VECTORS])
def test_vectors(kind: int, flags: int, stream: int, length: int, octets: str) -> None:
    assert encode(kind, flags, stream, length).hex() == octets
    assert read(FrameReader(), bytes.fromhex(octets)) == [Frame(kind, flags, stream, length)]


def test_vector_of_data() -> None:
    octets = bytes.fromhex("000000000000000200000012474554202f20485454502f312e310d0a0d0a")
    assert joined(read(FrameReader(), octets)) == [Frame(0, 0, 2, 18), (2, b"GET / HTTP/1.1\r\n\r\n")]


@given(st.lists(headers | data_frames), st.data())
def test_every_split_gives_the_same(frames: list[tuple[object, ...]], data: st.DataObject) -> None:
    octets = b""
    for frame in frames:
        if len(frame) == 3:
            flags, stream, payload = frame
            octets += encode(Kind.DATA, flags, stream, len(payload)) + payload  # type: ignore[arg-type]
        else:
            octets += encode(*frame)  # type: ignore[arg-type]
    whole = joined(read(FrameReader(), octets))
    assert (
        joined([item for octet in octets for item in read(single, bytes([octet]))] if (single := FrameReader()) else [])
        == whole
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=5)))
    reader = FrameReader()
    pieces = [octets[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    assert joined([item for piece in pieces for item in read(reader, piece)]) == whole
    assert len(reader.partial) < HEADER_SIZE


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_garbage_is_frames_or_an_error_and_nothing_is_kept(pieces: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for piece in pieces:
            read(reader, piece)
            assert len(reader.partial) < HEADER_SIZE
    except ParseError:
        pass


@pytest.mark.parametrize("octets", ["010100010000000100000000", "000400000000000000000000", "00ff00000000000000000000"])
def test_unknown_version_and_type_end_the_stream(octets: str) -> None:
    with pytest.raises(ParseError):
        read(FrameReader(), bytes.fromhex(octets))


def test_handshake_vector() -> None:
    assert encode_handshake(SECRET).hex() == HANDSHAKE
    assert HandshakeParser().feed(bytes.fromhex(HANDSHAKE)) == SECRET


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 7))
def test_t14_a_handshake_in_any_pieces_is_read_to_its_last_octet(secret: bytes, step: int) -> None:
    octets = encode_handshake(secret)
    parser = HandshakeParser()
    pieces = [octets[start : start + step] for start in range(0, len(octets), step)]
    assert [parser.feed(piece) for piece in pieces] == [None] * (len(pieces) - 1) + [secret]


@pytest.mark.parametrize(
    "octets",
    ["12", "1112", "11110000", "1111fff0", "1111ffff" + "61" * 10, "1111000161" + "62", "474554202f"],
)
def test_t14_wrong_magic_and_wrong_lengths_are_rejected(octets: str) -> None:
    with pytest.raises(ParseError) as caught:
        HandshakeParser().feed(bytes.fromhex(octets))
    assert "61" not in str(caught.value)


@given(st.lists(st.binary(max_size=8), max_size=20))
def test_handshake_garbage_is_more_or_an_error(pieces: list[bytes]) -> None:
    parser = HandshakeParser()
    try:
        found = [parser.feed(piece) for piece in pieces]
    except ParseError:
        return
    octets = b"".join(pieces)
    assert [secret for secret in found if secret] == (
        [octets[4:]] if len(octets) > 4 and len(octets) - 4 == int.from_bytes(octets[2:4]) else []
    )


@pytest.mark.parametrize("length", [0, MAX_SECRET + 1])
def test_secrets_that_no_frame_holds_are_not_sent(length: int) -> None:
    with pytest.raises(ValueError, match="secret"):
        encode_handshake(b"x" * length)
