"""The runner of all tests: who runs beside whom."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import check, parts
from tools.parts import Part

NOTE = "import pathlib, time; file = pathlib.Path({file!r}); file.open('a').write('{name} begins\\n')"
WAIT = "time.sleep({seconds}); file.open('a').write('{name} ends\\n')"


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Part]:
    monkeypatch.setattr(parts, "LOGS", tmp_path)
    monkeypatch.setattr(check, "LOGS", tmp_path)
    monkeypatch.setattr(parts, "ROOT", tmp_path)
    monkeypatch.setattr(check, "ROOT", tmp_path)
    file = str(tmp_path / "order")

    def make(name: str, *, exacting: bool, seconds: float) -> Part:
        script = "; ".join([NOTE, WAIT]).format(file=file, name=name, seconds=seconds)
        return Part(name, [[sys.executable, "-c", script]], exacting=exacting)

    return make


def test_a_part_that_needs_the_machine_for_itself_gets_it(
    part: Callable[..., Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [
        part("short", exacting=False, seconds=0.1),
        part("exacting", exacting=True, seconds=0.3),
        part("long", exacting=False, seconds=2),
    ]
    monkeypatch.setitem(check.CHOICES, "all", made)
    assert check.main(["all"]) == 0
    order = (tmp_path / "order").read_text().splitlines()
    assert order[:2] == ["exacting begins", "exacting ends"]
    assert set(order[2:4]) == {"short begins", "long begins"} or order[2:4] == ["short begins", "short ends"]
    assert order[-1] == "long ends"
    assert capsys.readouterr().out.splitlines()[-1] == "3 passed, 0 failed"


def test_what_failed_is_named_last(
    part: Callable[..., Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever sees only the end of the output knows what to look for."""
    script = f"""
        open({str(tmp_path / "bad.xml")!r}, "w").write(
            "<testsuites><testcase classname='tests.x' name='one'><failure message='why'/></testcase></testsuites>"
        )
        print("x" * 10_000)
        raise SystemExit(1)
    """
    bad = Part("bad", [[sys.executable, "-c", textwrap.dedent(script)]])
    monkeypatch.setitem(check.CHOICES, "all", [part("good", exacting=False, seconds=0), bad])
    assert check.main(["all"]) == 1
    output = capsys.readouterr().out
    assert output.splitlines()[-3:] == ["failed: bad", "  bad: tests.x.one: why", "1 passed, 1 failed"]
    assert len(output) < 3000
