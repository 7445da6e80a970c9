"""A part of the tests: it fails with its first command that fails, and its figures are those of its processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import parts
from tools.parts import Part, run

MOLECULE = """
INFO     [default > create] Executing
INFO     [default > create] Executed: Successful
INFO     [default > converge] Executing
===== 3 passed, 1 skipped in 0.12s =====
INFO     [default > converge] Executed: Successful
"""


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parts, "LOGS", tmp_path)
    return tmp_path


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_the_first_command_that_fails_is_the_last() -> None:
    part = Part("p", [python("print('one')"), python("raise SystemExit(3)"), python("print('three')")])
    assert not run(part).passed
    log = part.log.read_text()
    assert "\none\n" in log
    assert "\nthree\n" not in log
    assert run(Part("p", [python("print('one')")])).passed


def test_cpu_seconds_are_those_of_all_its_processes() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    outcome = run(Part("p", [python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])")]))
    assert outcome.passed
    assert 0.3 <= outcome.cpu < 10


def test_steps_of_molecule_and_what_its_tests_counted_are_shown() -> None:
    outcome = run(Part("p", [python(f"print({MOLECULE!r})")]))
    assert outcome.remark == "3 passed, 1 skipped, create 0, converge 0"


def test_the_slowest_tests_of_all_parts_come_first(logs: Path) -> None:
    case = '<testcase classname="tests.{0}" name="{0}" time="{1}"/>'
    (logs / "a.xml").write_text(f"<testsuites><testsuite>{case.format('x', 1.5)}</testsuite></testsuites>")
    (logs / "b.xml").write_text(f"<testsuites>{case.format('y', 2)}{case.format('z', 0.1)}</testsuites>")
    found = parts.slowest([Part("a", []), Part("b", []), Part("without", [])], 2)
    assert found == [(2.0, "b: tests.y.y"), (1.5, "a: tests.x.x")]


def test_failed_tests_are_named_with_the_first_line_of_the_reason(logs: Path) -> None:
    failed = '<testcase classname="tests.x" name="{0}"><{1} message="assert 1 == 2&#10;where"/></testcase>'
    cases = failed.format("one", "failure") + failed.format("two", "error") + '<testcase classname="t" name="good"/>'
    (logs / "a.xml").write_text(f"<testsuites>{cases}</testsuites>")
    found = parts.failures([Part("a", []), Part("without", [])])
    assert found == [("a: tests.x.one", "assert 1 == 2"), ("a: tests.x.two", "assert 1 == 2")]
