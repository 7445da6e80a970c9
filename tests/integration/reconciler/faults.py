"""Makes calls of the reconciler's store fail, before or after they were carried out."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from tfgateway.errors import StoreError
from tfgateway.reconciler.lease import Lease
from tfgateway.reconciler.store import Store

When = Literal["before", "after"]
WHEN: tuple[When, ...] = ("before", "after")
ELSEWHERE = {
    "Lease.renew": "it never returns, and asks redis by Lease.hold",
    "Lease.stand_by": "only members of a group wait so: tests/integration/reconciler/test_group.py",
    "Lease.release": "it reports nothing: connections that break are in tests/long/test_redis_cuts.py",
}
"""Calls that cannot fail with StoreError, and why."""


def _calls() -> dict[str, tuple[type, str]]:
    found = {
        f"{owner.__name__}.{name}": (owner, name)
        for owner in (Store, Lease)
        for name, _ in inspect.getmembers(owner, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert found.keys() >= ELSEWHERE.keys()
    return {call: place for call, place in found.items() if call not in ELSEWHERE}


CALLS = _calls()
"""Every public coroutine method of store and lease: what is added there has to fail as well."""


class Faults:
    """chosen: whether the n-th call of this name is to fail (counted from 1)."""

    def __init__(self, chosen: Callable[[str, int], bool], when: When) -> None:
        self._chosen = chosen
        self._when = when
        self.made: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for call, (owner, name) in CALLS.items():
            monkeypatch.setattr(owner, name, self._around(call, getattr(owner, name)))

    def _around(self, call: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def faulty(*arguments: Any, **named: Any) -> Any:
            self.made[call] += 1
            hit = self._chosen(call, self.made[call])
            self.injected[call] += hit
            if hit and self._when == "before":
                raise StoreError(f"{call} was not carried out")
            answer = await method(*arguments, **named)
            if hit:
                raise StoreError(f"{call} was carried out")
            return answer

        return faulty
