"""Every system call of a visit fails in every way that its manual page knows: one visitor suffers at most.

``tests/long`` has more occurrences of each call.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.daemon.syscalls.plane import running_gateway
from tests.unit.daemon.syscalls.runner import inject
from tests.unit.daemon.syscalls.visits import PROXIED, TUNNELLED


@pytest.mark.parametrize("kind", [*PROXIED, *TUNNELLED])
async def test_whatever_the_kernel_refuses_one_visitor_suffers_at_most(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, injected: dict[str, int]
) -> None:
    async with running_gateway(monkeypatch, tmp_path) as gateway:
        injected[kind], wrong = await inject(gateway, (PROXIED | TUNNELLED)[kind], occurrences=2)
    assert not wrong, f"{len(wrong)} of {injected[kind]}\n" + "\n".join(wrong)
