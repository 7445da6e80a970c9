"""Each call of store and lease fails by itself, the first, second or third time, before or after it is done."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.integration.reconciler.faults import CALLS, WHEN, Faults, When
from tests.integration.reconciler.scene import Scene

pytest_plugins = ("tests.integration.conftest", "tests.integration.reconciler.conftest")

TIMES = (1, 2, 3)
_injected: Counter[str] = Counter()


@pytest.mark.parametrize("number", TIMES)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("call", CALLS)
async def test_a_call_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch, call: str, when: When, number: int) -> None:
    faults = Faults(lambda name, count: (name, count) == (call, number), when)
    faults.install(monkeypatch)
    await scene.play()
    await scene.check()
    _injected[f"{call} {when}"] += faults.injected[call]
    if number == 1:
        assert faults.injected[call] == 1


def test_all_of_them_were_injected() -> None:
    print(f"{_injected.total()} faults were injected at {len(CALLS)} calls")  # noqa: T201
    assert {f"{call} {when}" for call in CALLS for when in WHEN} == set(+_injected)
