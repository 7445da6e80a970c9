"""Every way in which redis can lose its data or get others: nobody gets a wrong answer. A table of all is printed."""

from __future__ import annotations

import pytest

from tests.support import disasters

pytest_plugins = ("tests.integration.conftest", "tests.integration.reconciler.conftest")


@pytest.mark.parametrize("restart", [False, True], ids=["planes run", "planes restarted"])
@pytest.mark.parametrize("reconciler", [True, False], ids=["reconciler up", "reconciler down"])
@pytest.mark.parametrize("what", disasters.DISASTERS)
def test_nobody_gets_a_wrong_answer(
    served_node: disasters.Node, capsys: pytest.CaptureFixture[str], what: str, *, reconciler: bool, restart: bool
) -> None:
    row = disasters.run(served_node, what, reconciler=reconciler, restart=restart)
    with capsys.disabled():
        print(f"\n{row}")  # noqa: T201 - what this test is for
    assert served_node.load.wrong == 0, [row, *served_node.load.examples]
    assert min(served_node.load.counts["queries"], served_node.load.counts["visits"]) > 20
    if not restart:
        assert served_node.load.counts["queries lost"] + served_node.load.counts["visits lost"] == 0, row
