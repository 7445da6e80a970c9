"""The bounded stock of kernel pipes."""

from __future__ import annotations

import os
from pathlib import Path

from tfgateway.proxy.relay.pipes import Pipes


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_more_than_the_limit_and_each_for_one_at_a_time() -> None:
    before = descriptors()
    pipes = Pipes(2)
    one, two = pipes.take(), pipes.take()
    assert one is not None
    assert two is not None
    assert one is not two
    assert pipes.take() is None
    pipes.give_back(one)
    assert pipes.take() is one
    for pipe in (one, two):
        pipes.give_back(pipe)
    pipes.trim()
    assert descriptors() == before + 4
    pipes.trim()
    assert descriptors() == before


def test_a_pipe_that_is_not_empty_is_not_used_again() -> None:
    before = descriptors()
    pipes = Pipes(1)
    one = pipes.take()
    assert one is not None
    os.write(one.write, b"somebody's")
    one.filled = 10
    pipes.give_back(one)
    assert descriptors() == before
    two = pipes.take()
    assert two is not None
    assert two is not one
    pipes.give_back(two)
    pipes.trim()
    pipes.trim()


def test_what_is_in_use_now_and_then_stays() -> None:
    pipes = Pipes(3)
    taken = [pipes.take() for _ in range(3)]
    for pipe in taken:
        assert pipe is not None
        pipes.give_back(pipe)
    pipes.trim()
    busy = pipes.take()
    assert busy is not None
    pipes.give_back(busy)
    pipes.trim()  # two were not needed
    again = pipes.take()
    assert again is busy
    pipes.give_back(busy)
    pipes.trim()
    pipes.trim()
    assert not Path(f"/proc/self/fd/{busy.read}").exists()
