"""Waiting for a condition: what is returned, and when it fails."""

from __future__ import annotations

import pytest

from tests.support.waiting import soon, until


def test_the_first_true_value_is_returned() -> None:
    values = iter([0, "", None, "found", "late"])
    assert until(lambda: next(values), "a value", pause=0) == "found"


def test_what_never_happens_fails_with_the_log() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: a miracle\nits log"):
        until(lambda: False, "a miracle", 0, log=lambda: "its log")


def test_what_has_ended_is_not_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"ended before a miracle:\nits log"):
        until(lambda: False, "a miracle", running=lambda: False, log=lambda: "its log")


def test_what_happened_just_before_the_end_counts() -> None:
    values = iter([False, True])
    assert until(lambda: next(values), "its last act", running=lambda: False)


async def test_a_task_waits_no_longer_than_the_limit() -> None:
    with pytest.raises(TimeoutError):
        await soon(lambda: False, 0)
