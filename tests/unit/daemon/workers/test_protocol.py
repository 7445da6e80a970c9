"""Frames between supervisor and worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.plane import Endpoint
from tfgateway.workers.ipc.protocol import (
    Assignment,
    Collect,
    Drain,
    Failed,
    Figures,
    Frames,
    Go,
    InheritedSocket,
    Peers,
    Ready,
    Status,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from tfgateway.workers.metrics.merged import Family, Sample

SAMPLES = (Sample("a_total", (("x", "1"),), float("inf")), Sample("a_total", (), 0.5))
TO_WORKER = [
    Assignment(
        "worker-1", 0, 1, 2, "/run/x", "[dns]\n", "g.toml", (InheritedSocket(5, Endpoint("dns", "udp", "[::]:53")),)
    ),
    Go(),
    Drain(),
    Collect(7),
    Peers(("worker-1", "worker-2")),
]
FROM_WORKER = [
    Ready(),
    Status("waiting"),
    Figures((Family("a", "help", "counter", SAMPLES, greatest=True),), 3),
    Failed("x", 2),
]


@given(st.lists(st.integers(1, 40), max_size=60))
def test_frames_come_out_whole_whatever_pieces_they_come_in(cuts: list[int]) -> None:
    stream = b"".join(encode(message) for message in FROM_WORKER)
    frames, found = Frames(), []
    for cut in [*cuts, len(stream)]:
        found += list(frames.feed(stream[:cut]))
        stream = stream[cut:]
    assert [decode_from_worker(body) for body in found] == FROM_WORKER
    assert frames.unread == b""


def test_a_successor_goes_on_in_the_middle_of_a_frame() -> None:
    stream = encode(Status("waiting for redis"))
    first = Frames()
    assert list(first.feed(stream[:9])) == []
    assert [decode_from_worker(body) for body in Frames(first.unread).feed(stream[9:])] == [Status("waiting for redis")]


def test_both_directions() -> None:
    bodies = Frames().feed(b"".join(encode(message) for message in TO_WORKER))
    assert [decode_to_worker(body) for body in bodies] == TO_WORKER


@given(st.binary(max_size=64))
def test_what_another_release_or_nobody_says_is_nothing(body: bytes) -> None:
    assert decode_from_worker(body) is None
    assert decode_to_worker(body) is None


def test_a_length_beyond_reason_is_refused_before_it_is_collected() -> None:
    with pytest.raises(ParseError):
        list(Frames().feed(b"\xff\xff\xff\xff"))
