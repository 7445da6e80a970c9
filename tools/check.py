"""Runs every test: independent parts beside each other, each into its own log, and a summary at the end.

``python -m tools.check fast|all|long [PART ...]``; the last line is ``N passed, N failed``. Exit code 1 when any
failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo import playbook

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "check"
TAIL = 60  # lines of a failed part's log that are shown


@dataclass(frozen=True)
class Part:
    """Commands that pass or fail together. ``containers``: it needs them, so ``fast`` leaves it out."""

    name: str
    commands: list[list[str]]
    containers: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a part went."""

    part: Part
    passed: bool
    seconds: float
    log: Path
    remark: str


PYTEST = ["pytest", "--quiet", "--no-header", "--color=no"]
# The long ones first, so that two cores end together.
BESIDE = [
    *(
        Part(
            name,
            [["molecule", "test", "--scenario-name", scenario]],
            containers=True,
            environment={"MOLECULE_EPHEMERAL_DIRECTORY": str(ROOT / ".cache" / "molecule" / f"ephemeral-{scenario}")},
        )
        for name, scenario in (
            ("molecule", "default"),
            ("molecule-prod", "prod"),
            ("molecule-cutover", "cutover"),
            ("molecule-upgrade", "upgrade"),
            ("molecule-lockout", "lockout"),
            ("molecule-options", "options"),
        )
    ),
    Part("sanity", [[sys.executable, "-m", "tools.sanity"]], containers=True),
    Part("unit", [[*PYTEST, "tests/unit"]]),
    Part("integration", [[*PYTEST, "tests/integration"]]),
    Part("ansible-lint", [["ansible-lint", "--offline", "--nocolor"]]),
    Part("mypy", [["mypy", "--no-color-output"]]),
    Part("ruff", [["ruff", "check", "."], ["ruff", "format", "--check", "."]]),
    Part(
        "docs",
        [
            [sys.executable, "-m", "tools.reference", "--check"],
            ["sphinx-build", "-W", "--keep-going", "--quiet", "-b", "html", "docs", str(ROOT / ".cache" / "docs")],
        ],
    ),
    Part("imports", [["lint-imports", "--no-cache"]]),
    Part("yamllint", [["yamllint", "--strict", "."]]),
    Part("changelog", [["antsibull-changelog", "lint"]]),
    Part("importer", [[sys.executable, "-m", "tools.importer"]]),
]
# Alone and last: the whole main job from nothing, twice, as a person runs it.
LAST = [Part("demo", [[*PYTEST, "tests/system"]], containers=True)]
# Long by nature, so no part of the others: a file of tests/long each, and the property tests with many more examples.
LONG = [
    Part("properties", [[*PYTEST, "--hypothesis-profile=long", "-m", "hypothesis", "tests/unit", "tests/integration"]]),
    *(
        Part(path.stem.removeprefix("test_"), [[*PYTEST, str(path.relative_to(ROOT))]])
        for path in sorted((ROOT / "tests" / "long").rglob("test_*.py"))
    ),
]


def run(part: Part) -> Outcome:
    """Run a part's commands until one fails; everything goes to its log."""
    log = LOGS / f"{part.name}.log"
    started = time.monotonic()
    environment = {**playbook.environment(), "NO_COLOR": "1", **part.environment}
    passed = True
    with log.open("w") as sink:
        for command in part.commands:
            sink.write(f"$ {' '.join(command)}\n")
            sink.flush()
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )
            if done.returncode != 0:
                passed = False
                break
    return Outcome(part, passed, time.monotonic() - started, log, remark(log))


def remark(log: Path) -> str:
    """What the last pytest of a log counted, without its time; empty for other tools."""
    for line in reversed(log.read_text(errors="replace").splitlines()):
        if " passed" in line and " in " in line and not line.startswith("Passed"):
            return line.strip("= ").partition(" in ")[0]
    return ""


def skipped(log: Path) -> list[str]:
    """What pytest left out, with its reasons."""
    return [line for line in log.read_text(errors="replace").splitlines() if line.startswith("SKIPPED ")]


def main(arguments: list[str]) -> int:
    """Exit code."""
    chosen, names = arguments[0], arguments[1:]
    sets = {
        "fast": [part for part in BESIDE if not part.containers],
        "all": BESIDE + LAST,
        "long": LONG,
    }
    parts = sets.get(chosen, [])
    if not parts or set(names) - {part.name for part in parts}:
        for chosen, parts in sets.items():
            print(f"usage: tools.check {chosen} [{' | '.join(part.name for part in parts)}]", file=sys.stderr)
        return 2
    parts = [part for part in parts if part.name in names or not names]

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    LOGS.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []

    def finished(outcome: Outcome) -> None:
        outcomes.append(outcome)
        mark = "[green]passed[/]" if outcome.passed else "[red]FAILED[/]"
        console.print(f"  {mark} {outcome.part.name} [dim]{outcome.seconds:.0f} s {outcome.remark}[/]")
        if not outcome.passed:
            lines = outcome.log.read_text(errors="replace").splitlines()[-TAIL:]
        else:
            lines = skipped(outcome.log)
        if lines:
            console.print("\n".join(f"    | {line}" for line in lines), markup=False, highlight=False)

    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for future in as_completed([pool.submit(run, part) for part in parts if part not in LAST]):
            finished(future.result())
    for part in LAST:
        if part in parts:
            finished(run(part))
    show(console, outcomes, time.monotonic() - started)
    failed = sum(not outcome.passed for outcome in outcomes)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


def show(console: Console, outcomes: list[Outcome], seconds: float) -> None:
    """The table at the end."""
    table = Table(title=f"tests, {seconds:.0f} s", title_justify="left")
    for column in ("part", "result", "seconds", "", "log"):
        table.add_column(column)
    for outcome in outcomes:
        result = "[green]passed[/]" if outcome.passed else "[red]FAILED[/]"
        where = str(outcome.log.relative_to(ROOT))
        table.add_row(outcome.part.name, result, f"{outcome.seconds:.0f}", outcome.remark, where)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
