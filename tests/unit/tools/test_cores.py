"""Every ansible-core that the collection is tested with is given the same exceptions from ansible-test sanity."""

from __future__ import annotations

import re

from tools import cores
from tools.tree import ROOT

IGNORED = {path.name: path.read_text().splitlines() for path in (ROOT / "tests" / "sanity").glob("ignore-*.txt")}
LICENSED = [path for kind in ("modules", "lookup", "inventory") for path in (ROOT / "plugins" / kind).glob("*.py")]


def test_each_has_them() -> None:
    assert IGNORED.keys() == {f"ignore-{core}.txt" for core in cores.CORES}
    wanted = sorted(
        f"{path.relative_to(ROOT)} validate-modules:missing-gplv3-license  # Apache-2.0" for path in LICENSED
    )
    assert {name: sorted(lines) for name, lines in IGNORED.items()} == dict.fromkeys(IGNORED, wanted)


def test_each_has_a_locked_file() -> None:
    assert {path.stem for path in (ROOT / "requirements" / "cores").glob("*.lock")} == cores.CORES.keys()


def test_controllers_have_the_release_that_sanity_is_tested_by() -> None:
    for core in ("2.16", "2.21"):
        locks = (ROOT / "requirements" / "cores" / f"{core}.lock", ROOT / "requirements" / f"core-{core}.lock")
        pinned = {re.search(r"^ansible-core==(\S+)", path.read_text(), re.MULTILINE)[1] for path in locks}  # type: ignore[index]
        assert len(pinned) == 1
