"""Sessions without I/O: two sides talking to each other, and one side against a peer that does what it likes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.tunnel.yamux import connection as yamux
from tfgateway.tunnel.yamux.connection import (
    MAX_UNACKNOWLEDGED,
    DataReceived,
    Pong,
    Role,
    StreamAccepted,
    StreamEnded,
    StreamOpened,
    StreamReset,
    WentAway,
    WindowOpened,
    YamuxConnection,
)
from tfgateway.tunnel.yamux.frames import Flag, GoAway, Kind, encode
from tfgateway.tunnel.yamux.windows import INITIAL_WINDOW, WindowBudget

GO_AWAY_1 = bytes.fromhex("000300000000000000000001")


def sent(side: YamuxConnection) -> bytes:
    octets = b"".join(side.outgoing)
    side.outgoing.clear()
    return octets


def heard(side: YamuxConnection, octets: bytes) -> list[object]:
    """Events, with payload as ``(stream, bytes)``."""
    events = side.receive(memoryview(octets))
    return [(event.stream, bytes(event.data)) if isinstance(event, DataReceived) else event for event in events]


def server() -> YamuxConnection:
    return YamuxConnection(Role.SERVER, max_streams=8, budget=WindowBudget(0))


def client() -> YamuxConnection:
    return YamuxConnection(Role.CLIENT, max_streams=256, budget=WindowBudget(0))


def opened_by_server() -> tuple[YamuxConnection, YamuxConnection]:
    """(server, client) with stream 2 open and taken."""
    one, other = server(), client()
    one.open()
    heard(other, sent(one))
    other.accept(2)
    heard(one, sent(other))
    return one, other


def test_vectors_of_an_old_client() -> None:
    side = server()
    octets = bytes.fromhex(
        "000100010000000100000000"
        "00000000000000010000001711110013373a7333637233742d74756e6e656c2d6b6579"
        "000100040000000100000000"
    )
    assert heard(side, octets) == [StreamOpened(1), (1, octets[24:47]), StreamEnded(1)]
    side.accept(1)
    side.end(1)
    assert sent(side).hex() == "000100020000000100000000000100040000000100000000"
    assert side.streams == 0
    assert side.open() == 2
    side.send(2, b"GET / HTTP/1.1\r\n\r\n")
    assert sent(side).hex() == "000100010000000200000000000000000000000200000012474554202f20485454502f312e310d0a0d0a"
    assert [side.open(), side.open()] == [4, 6]


def test_syn_on_data() -> None:
    octets = bytes.fromhex("00000001000000010000001711110013373a7333637233742d74756e6e656c2d6b6579")
    assert heard(server(), octets) == [StreamOpened(1), (1, octets[12:])]


def test_fin_on_data_comes_behind_the_data_in_any_split() -> None:
    octets = encode(Kind.DATA, Flag.SYN | Flag.FIN, 1, 3) + b"abc"
    for cut in range(len(octets)):
        side = server()
        found = heard(side, octets[:cut]) + heard(side, octets[cut:])
        assert found[0] == StreamOpened(1)
        assert found[-1] == StreamEnded(1)
        assert b"".join(piece for _, piece in found[1:-1]) == b"abc"  # type: ignore[misc]


def test_half_closed_both_ways() -> None:
    one, other = opened_by_server()
    one.send(2, b"request")
    one.end(2)
    assert heard(other, sent(one)) == [(2, b"request"), StreamEnded(2)]
    other.send(2, b"answer")
    assert heard(one, sent(other)) == [(2, b"answer")]
    other.end(2)
    other.end(2)
    assert heard(one, sent(other)) == [StreamEnded(2)]
    assert one.streams == other.streams == 0


def test_a_second_fin_ends_the_session() -> None:
    one, _ = opened_by_server()
    fin = encode(Kind.WINDOW_UPDATE, Flag.FIN, 2, 0)
    with pytest.raises(ParseError):
        heard(one, fin + fin)
    assert sent(one) == GO_AWAY_1


def test_reset_drops_the_stream_and_its_late_data() -> None:
    one, other = opened_by_server()
    one.reset(2)
    other.send(2, b"on its way")
    assert heard(one, sent(other)) == []
    assert heard(other, sent(one)) == [StreamReset(2)]
    other.send(2, b"nobody")
    other.consume(2, 1)
    assert sent(other) == b""


def test_exhausted_windows_and_grants_at_half() -> None:
    one, other = opened_by_server()
    one.send(2, bytes(INITIAL_WINDOW))
    assert one.window(2) == 0
    with pytest.raises(ValueError, match="window"):
        one.send(2, b"x")
    heard(other, sent(one))
    assert not other.consume(2, INITIAL_WINDOW // 2 - 1)
    assert other.consume(2, 1)
    other.grant(2, 0)
    update = sent(other)
    assert update.hex() == "000100000000000200020000"
    assert heard(one, update) == [WindowOpened(2)]
    assert heard(one, update) == []  # it was open already
    assert one.window(2) == INITIAL_WINDOW


def test_violating_the_window_ends_the_session() -> None:
    one, _ = opened_by_server()
    heard(one, encode(Kind.DATA, 0, 2, INITIAL_WINDOW) + bytes(INITIAL_WINDOW))
    with pytest.raises(ParseError):
        heard(one, encode(Kind.DATA, 0, 2, 1))
    assert sent(one).endswith(GO_AWAY_1)


@pytest.mark.parametrize("number", [2, 0])
def test_a_stream_with_the_wrong_parity_ends_the_session(number: int) -> None:
    side = server()
    with pytest.raises(ParseError):
        heard(side, encode(Kind.WINDOW_UPDATE, Flag.SYN, number, 0))
    assert sent(side) == GO_AWAY_1


def test_a_stream_opened_twice_ends_the_session() -> None:
    side = server()
    with pytest.raises(ParseError):
        heard(side, encode(Kind.WINDOW_UPDATE, Flag.SYN, 1, 0) * 2)


def test_t17_streams_beyond_the_limit_are_reset() -> None:
    side = YamuxConnection(Role.SERVER, max_streams=1, budget=WindowBudget(0))
    octets = encode(Kind.WINDOW_UPDATE, Flag.SYN, 1, 0) + encode(Kind.WINDOW_UPDATE, Flag.SYN, 3, 0)
    assert heard(side, octets) == [StreamOpened(1)]
    assert sent(side) == encode(Kind.WINDOW_UPDATE, Flag.RST, 3, 0)
    side.reset(1)
    assert heard(side, encode(Kind.WINDOW_UPDATE, Flag.SYN, 5, 0)) == [StreamOpened(5)]


def test_no_more_opens_than_the_peers_backlog() -> None:
    one, other = server(), client()
    for _ in range(MAX_UNACKNOWLEDGED):
        one.open()
    assert not one.may_open
    heard(other, sent(one))
    other.accept(2)
    assert heard(one, sent(other)) == [StreamAccepted(2)]
    assert one.may_open
    one.open()
    other.reset(4)
    heard(one, sent(other))
    assert one.may_open


def test_ping_is_answered_and_go_away_is_told() -> None:
    one, other = server(), client()
    assert one.ping() == 0
    assert one.ping() == 1
    heard(other, sent(one))
    assert heard(one, sent(other)) == [Pong(0), Pong(1)]
    other.go_away(GoAway.NORMAL)
    assert heard(one, sent(other)) == [WentAway(0)]
    assert not one.may_open


def test_frames_of_unknown_streams_are_skipped() -> None:
    octets = encode(Kind.DATA, 0, 44, 500_000) + bytes(500_000) + encode(Kind.WINDOW_UPDATE, Flag.FIN, 44, 0)
    assert heard(server(), octets + encode(Kind.PING, Flag.ACK, 0, 7)) == [Pong(7)]


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_garbage_is_events_or_an_error(pieces: list[bytes]) -> None:
    side = server()
    side.open()
    try:
        for piece in pieces:
            heard(side, piece)
    except ParseError:
        assert sent(side).endswith(GO_AWAY_1)


frames = st.tuples(
    st.sampled_from(Kind),
    st.integers(0, 15),
    st.integers(0, 6),
    st.integers(0, 3) | st.sampled_from([131072, 2**32 - 1]),
)


@given(st.lists(frames, max_size=30))
def test_mutated_frames_are_events_or_an_error(sequence: list[tuple[Kind, int, int, int]]) -> None:
    """Well-formed headers in any order: the counts of streams stay what they are."""
    side = server()
    side.open()
    side.open()
    try:
        for kind, flags, number, length in sequence:
            payload = bytes(length) if kind is Kind.DATA and length < 200_000 else b""
            for event in side.receive(memoryview(encode(kind, flags, number, length) + payload)):
                if isinstance(event, StreamOpened):
                    side.accept(event.stream)
                elif isinstance(event, DataReceived) and side.consume(event.stream, len(event.data)):
                    side.grant(event.stream, 0)
    except ParseError:
        pass
    assert 0 <= side.streams <= 2 + 8
    assert 0 <= side._unacknowledged <= 2
    for number in list(side._streams):
        side.reset(number)
    assert (side._peers_streams, side._unacknowledged) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40_000)), max_size=40), st.integers(1, 1000))
def test_nothing_is_lost_and_no_window_is_violated(steps: list[tuple[bool, int]], step: int) -> None:
    """Both sides send what their windows allow; octets travel in pieces of ``step``, and the state moves in between."""
    one, other = opened_by_server()
    wrote: dict[str, bytearray] = {"one": bytearray(), "other": bytearray()}
    read: dict[str, bytearray] = {"one": bytearray(), "other": bytearray()}

    def travel(sender: YamuxConnection, receiver: YamuxConnection, name: str) -> None:
        octets = sent(sender)
        for start in range(0, len(octets), max(step, len(octets) // 50)):
            for event in receiver.receive(memoryview(octets[start : start + max(step, len(octets) // 50)])):
                if isinstance(event, DataReceived):
                    read[name] += event.data
                    if receiver.consume(event.stream, len(event.data)):
                        receiver.grant(event.stream, 0)

    for index, (by_one, size) in enumerate(steps):
        side, name = (one, "one") if by_one else (other, "other")
        data = (index % 256).to_bytes(1) * min(size, side.window(2))
        side.send(2, data)
        wrote[name] += data
        travel(one, other, "one")
        travel(other, one, "other")
        one = YamuxConnection.thaw(Role.SERVER, one.freeze(), max_streams=8, budget=WindowBudget(0))
    assert read == wrote


def test_a_session_goes_on_elsewhere_in_the_middle_of_a_frame() -> None:
    one, other = opened_by_server()
    other.send(2, b"0123456789")
    other.end(2)
    octets = sent(other)
    for cut in range(len(octets)):
        before = YamuxConnection.thaw(Role.SERVER, one.freeze(), max_streams=8, budget=WindowBudget(0))
        found = heard(before, octets[:cut])
        after = YamuxConnection.thaw(Role.SERVER, before.freeze(), max_streams=8, budget=WindowBudget(0))
        found += heard(after, octets[cut:])
        assert b"".join(item[1] for item in found if isinstance(item, tuple)) == b"0123456789"
        assert found[-1] == StreamEnded(2)
        assert after.open() == 4
        assert after.freeze() != before.freeze()


def test_frames_are_small_enough_for_the_others_to_get_their_turn() -> None:
    one, other = opened_by_server()
    one.send(2, bytes(200_000))
    headers = [item for item in one.outgoing if len(item) == 12]
    assert len(headers) == 4
    assert max(len(item) for item in one.outgoing) == yamux.MAX_FRAME
    assert heard(other, sent(one))[-1] is not None
