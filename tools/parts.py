"""A part of the tests: what it runs, and how it went."""

from __future__ import annotations

import os
import re
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from testbed import playbook

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "check"
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
_STEP = re.compile(r"INFO +\[\S+ > (\w+)\] (Executing|Executed)")


@dataclass(frozen=True)
class Part:
    """Commands that pass or fail together. ``fast`` leaves out what needs containers, and what is slow."""

    name: str
    commands: list[list[str]]
    containers: bool = False
    slow: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    exacting: bool = False
    """It runs first and alone, with its files in memory, so that what its servers and deadlines wait for is in time."""

    @property
    def log(self) -> Path:
        """All that its commands print."""
        return LOGS / f"{self.name}.log"

    @property
    def report(self) -> Path:
        """JUnit's XML, when it is pytest's or molecule's."""
        return _report(self.name)


@dataclass(frozen=True)
class Outcome:
    """How a part went. cpu: seconds of its processes; what runs in containers is not among them."""

    part: Part
    passed: bool
    seconds: float
    cpu: float
    remark: str


def _report(name: str) -> Path:
    return LOGS / f"{name}.xml"


def suite(
    name: str, directory: str, *options: str, containers: bool = False, exacting: bool = False, slow: bool = False
) -> Part:
    """A pytest run, with its report."""
    report = f"--junit-xml={_report(name)}"
    command = ["pytest", "--quiet", "--no-header", "--color=no", report, *options, directory]
    return Part(name, [command], containers, slow, exacting=exacting)


def scenario(name: str, molecule_name: str) -> Part:
    """A molecule scenario, whose tests leave their report."""
    environment = {
        "MOLECULE_EPHEMERAL_DIRECTORY": str(ROOT / ".cache" / "molecule" / f"ephemeral-{molecule_name}"),
        "PYTEST_ADDOPTS": f"--junit-xml={_report(name)}",  # of the one pytest that molecule runs
    }
    command = ["molecule", "test", "--scenario-name", molecule_name]
    return Part(name, [command], containers=True, environment=environment)


def run(part: Part) -> Outcome:
    """Run a part's commands until one fails; everything goes to its log."""
    started = time.monotonic()
    part.report.unlink(missing_ok=True)
    environment = {**playbook.environment(), "NO_COLOR": "1", **part.environment}
    passed, cpu = True, 0.0
    steps: list[str] = []
    with part.log.open("w") as log, ExitStack() as stack:
        if part.exacting and _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK):
            environment["TMPDIR"] = stack.enter_context(TemporaryDirectory(dir=_MEMORY))
        for command in part.commands:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            assert process.stdout is not None  # noqa: S101  (asked for above)
            begun = time.monotonic()
            for line in process.stdout:
                log.write(line)
                log.flush()
                if found := _STEP.search(line):
                    if found[2] == "Executed":
                        steps.append(f"{found[1]} {time.monotonic() - begun:.0f}")
                    begun = time.monotonic()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu += usage.ru_utime + usage.ru_stime
            if process.returncode != 0:
                passed = False
                break
    remark = ", ".join(filter(None, [counted(part.log), *steps]))
    return Outcome(part, passed, time.monotonic() - started, cpu, remark)


def counted(log: Path) -> str:
    """What the last pytest of a log counted, without its time; empty for other tools."""
    for line in reversed(log.read_text(errors="replace").splitlines()):
        if " passed" in line and " in " in line and not line.startswith("Passed"):
            return line.strip("= ").partition(" in ")[0]
    return ""


def skipped(log: Path) -> list[str]:
    """What pytest left out, with its reasons."""
    return [line for line in log.read_text(errors="replace").splitlines() if line.startswith("SKIPPED ")]


def slowest(parts: Sequence[Part], count: int) -> list[tuple[float, str]]:
    """Seconds and name of the tests that took longest, by the reports of the parts."""
    return sorted(((float(case.get("time", 0)), name) for name, case in _cases(parts)), reverse=True)[:count]


def failures(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Name of each test that failed, and the first line of why, by the reports of the parts."""
    return [
        (name, next(iter(problem.get("message", "").splitlines()), ""))
        for name, case in _cases(parts)
        for problem in (*case.iter("failure"), *case.iter("error"))
    ]


def _cases(parts: Sequence[Part]) -> Iterator[tuple[str, ET.Element]]:
    for part in parts:
        if part.report.exists():
            for case in ET.parse(part.report).iter("testcase"):  # noqa: S314  (our own pytest wrote it)
                yield f"{part.name}: {case.get('classname')}.{case.get('name')}", case
