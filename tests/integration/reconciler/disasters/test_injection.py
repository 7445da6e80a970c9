"""Calls of the reconciler's store fail, before and after they were carried out: in the end nothing is missing.

Here all of them in one life of a gateway; one by one, and again and again, in tests/long.
"""

from __future__ import annotations

import pytest

from tests.integration.reconciler.faults import CALLS, WHEN, Faults, When
from tests.integration.reconciler.scene import Scene


async def test_without_a_fault_every_call_is_made(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(lambda _call, _number: False, "before")
    faults.install(monkeypatch)
    await scene.play()
    await scene.check()
    assert set(faults.made) == set(CALLS), "the scene has to make every call that store and lease offer"


@pytest.mark.parametrize("when", WHEN)
async def test_every_call_fails_the_first_time(scene: Scene, monkeypatch: pytest.MonkeyPatch, when: When) -> None:
    faults = Faults(lambda _call, number: number == 1, when)
    faults.install(monkeypatch)
    await scene.play()
    await scene.check()
    assert set(faults.injected) == set(CALLS)
    print(f"{len(faults.injected)} calls failed {when} they were carried out")  # noqa: T201
