"""Some steps of a reload fail, each for another reason; ``tests/long`` has each step with each error."""

from __future__ import annotations

import pytest

from tests.support.faults import Fault, faults

from .scenarios import Rigs

_STARTED = "reload workers.worker_pool:WorkerPool._spawn>socket:socket._real_close socket.close"
_SERVING = "reload telemetry.metrics:end_page>socket:socket._real_close socket.close"
_EXECUTING = "reload workers.reload.perform:execute posix.execve"
EVENTS = [
    Fault(_STARTED, "the youngest worker is killed"),
    Fault(_SERVING, "the oldest worker is killed"),
    Fault(_SERVING, "current is removed"),
    Fault(_EXECUTING, "the configuration is removed"),
    Fault(_EXECUTING, "the release is removed"),
]
"""A worker that has just started, one that drains; a release and a configuration that go away."""


@pytest.mark.parametrize("rigs", [(1, 1)], indirect=True, ids=["one worker"])
def test_one_generation_serves_and_what_is_reported_is_true(rigs: Rigs) -> None:
    steps = rigs.steps()
    chosen = [*EVENTS, *faults(steps, every=False)]
    outcomes = rigs.try_out(chosen)
    print(f"{len(steps)} steps of a reload, {len(chosen)} faults tried out: {dict(outcomes)}")  # noqa: T201
    assert set(outcomes) == {"failed", "done", "done, supervisor kept"}


def test_a_call_that_nobody_has_thought_of_is_an_error() -> None:
    with pytest.raises(AssertionError, match=r"posix\.sync"):
        faults(["reload somewhere posix.sync"], every=False)
