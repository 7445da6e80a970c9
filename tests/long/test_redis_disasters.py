"""Every way in which redis can lose its data or get others: nobody gets a wrong answer. A table of all is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import disasters

pytest_plugins = ("tests.integration.conftest", "tests.integration.reconciler.conftest")


@pytest.fixture
def node(fleet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[disasters.Node]:
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    started = disasters.Node(fleet, tmp_path)
    started.start()
    yield started
    started.close()


@pytest.mark.parametrize("restart", [False, True], ids=["planes run", "planes restarted"])
@pytest.mark.parametrize("reconciler", [True, False], ids=["reconciler up", "reconciler down"])
@pytest.mark.parametrize("what", disasters.DISASTERS)
def test_nobody_gets_a_wrong_answer(
    node: disasters.Node, capsys: pytest.CaptureFixture[str], what: str, *, reconciler: bool, restart: bool
) -> None:
    row = disasters.run(node, what, reconciler=reconciler, restart=restart)
    with capsys.disabled():
        print(f"\n{row}")  # noqa: T201 - what this test is for
    assert node.load.wrong == 0, [row, *node.load.examples]
    assert min(node.load.counts["queries"], node.load.counts["visits"]) > 20
    if not restart:
        assert node.load.counts["queries lost"] + node.load.counts["visits lost"] == 0, row
