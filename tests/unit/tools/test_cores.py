"""Every ansible-core that the collection is tested with is given the same exceptions from ansible-test sanity."""

from __future__ import annotations

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
