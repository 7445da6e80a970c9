"""Runs every test, each part into its own log, and prints a summary at the end.

What needs the machine for itself runs first, then the other parts beside each other.

``python -m tools.check fast|all|long|distributions [PART ...]``; the last line is ``N passed, N failed``. Exit code 1
when any failed.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from rich.console import Console
from rich.table import Table

from tools import distributions
from tools.parts import LOGS, ROOT, Outcome, Part, failures, run, scenario, skipped, slowest, suite

TAIL = 60  # lines of a failed part's log that are shown
WIDEST = 300  # characters of each: a log of a server in it would hide the rest
SLOWEST = 12  # tests that are named at the end
CORES = os.cpu_count() or 1
LANES = CORES + 1  # parts beside each other: each waits for something now and then


def spread(processes: int) -> list[str]:
    """Options of pytest. A file stays in one process, since what its tests share may be dear."""
    return [f"--numprocesses={processes}", "--dist=loadfile"]


# The long ones and those that wait for containers first, so that all lanes end together.
PARTS = [
    # Twice as many processes as cores: half of its time is that of redis and of deadlines.
    suite("integration", "tests/integration", *spread(2 * CORES), exacting=True, slow=True),
    scenario("molecule-prod", "prod"),
    scenario("molecule", "default"),
    suite("demo", "tests/system", containers=True),
    scenario("molecule-cutover", "cutover"),
    scenario("molecule-upgrade", "upgrade"),
    scenario("molecule-options", "options"),
    scenario("molecule-lockout", "lockout"),
    suite("unit", "tests/unit", *spread(CORES), slow=True),
    Part("sanity", [[sys.executable, "-m", "tools.sanity"]], slow=True),
    Part("ansible-lint", [["ansible-lint", "--offline", "--nocolor"]], slow=True),
    Part("mypy", [["mypy", "--no-color-output"]]),
    Part("importer", [[sys.executable, "-m", "tools.importer"]], slow=True),
    Part("documentation", [[sys.executable, "-m", "tools.documentation"]]),
    Part(
        "docs",
        [
            [sys.executable, "-m", "tools.reference", "--check"],
            ["sphinx-build", "-W", "--keep-going", "--quiet", "-b", "html", "docs", str(ROOT / ".cache" / "docs")],
        ],
    ),
    Part("ruff", [["ruff", "check", "."], ["ruff", "format", "--check", "."]]),
    Part("wording", [["codespell"], [sys.executable, "-m", "tools.wording"]]),
    Part("imports", [["lint-imports", "--no-cache"]]),
    Part("yamllint", [["yamllint", "--strict", "."]]),
    Part("changelog", [["antsibull-changelog", "lint"]]),
]
# Between two changes: the daemon, the plugins and the tools, with fewer examples; runs of Ansible take longer.
QUICK_UNIT = suite(
    "unit",
    "tests/unit",
    *spread(CORES),
    "--hypothesis-profile=quick",
    "--ignore=tests/unit/roles",
    "--ignore=tests/unit/playbooks",
)
# Long by nature, so no part of the others: files of tests/long, a group of gateways on nodes, property tests
# with many more examples.
LONG = [
    Part("cores", [[sys.executable, "-m", "tools.cores"]]),
    suite(
        "properties", "tests", *spread(CORES), "--hypothesis-profile=long", "-m", "hypothesis", "--ignore=tests/long"
    ),
    scenario("molecule-group", "group"),
    *(
        suite(path.stem.removeprefix("test_"), str(path.relative_to(ROOT)))
        for path in sorted((ROOT / "tests" / "long").rglob("test_*.py"))
    ),
]
CHOICES = {
    "fast": [QUICK_UNIT, *(part for part in PARTS if not (part.containers or part.slow))],
    "all": PARTS,
    "long": LONG,
    "distributions": distributions.PARTS,
}


def main(arguments: list[str]) -> int:
    """Exit code."""
    chosen, names = arguments[0], arguments[1:]
    parts = CHOICES.get(chosen, [])
    if not parts or set(names) - {part.name for part in parts}:
        for choice, offered in CHOICES.items():
            print(f"usage: tools.check {choice} [{' | '.join(part.name for part in offered)}]", file=sys.stderr)
        return 2
    parts = [part for part in parts if part.name in names or not names]
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    LOGS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    outcomes: list[Outcome] = []
    for exacting, width in ((True, 1), (False, LANES)):
        together = [part for part in parts if part.exacting is exacting]
        with ThreadPoolExecutor(max_workers=width) as lanes:
            for future in as_completed([lanes.submit(run, part) for part in together]):
                outcomes.append(future.result())
                show(console, outcomes[-1])
    summary(console, outcomes, time.monotonic() - started)
    if chosen == "distributions":
        console.print("\n".join(distributions.report(outcomes)), markup=False, highlight=False)
        if changed := distributions.record(outcomes):
            console.print(f"{changed} has changed: make reference")
    failed = sum(not outcome.passed for outcome in outcomes)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


def show(console: Console, outcome: Outcome) -> None:
    """A part's line when it has ended: of one that failed the end of its log, else what it left out and why."""
    mark = "[green]passed[/]" if outcome.passed else "[red]FAILED[/]"
    console.print(f"  {mark} {outcome.part.name} [dim]{outcome.seconds:.0f} s {outcome.remark}[/]")
    if outcome.passed:
        lines = skipped(outcome.part.log)
    else:
        lines = outcome.part.log.read_text(errors="replace").splitlines()[-TAIL:]
    if lines:
        console.print("\n".join(f"    | {line[:WIDEST]}" for line in lines), markup=False, highlight=False)


def summary(console: Console, outcomes: list[Outcome], seconds: float) -> None:
    """The tables at the end, the parts and the tests that took longest first; then what failed."""
    table = Table(title=f"tests, {seconds:.0f} s", title_justify="left")
    for column in ("part", "result", "seconds", "CPU s", "", "log"):
        table.add_column(column)
    for outcome in sorted(outcomes, key=lambda one: one.seconds, reverse=True):
        result = "[green]passed[/]" if outcome.passed else "[red]FAILED[/]"
        where = str(outcome.part.log.relative_to(ROOT))
        figures = (f"{outcome.seconds:.0f}", f"{outcome.cpu:.0f}")
        table.add_row(outcome.part.name, result, *figures, outcome.remark, where)
    console.print(table)
    longest = slowest([outcome.part for outcome in outcomes], SLOWEST)
    if longest:
        console.print("slowest tests, in seconds:")
        for taken, name in longest:
            console.print(f"  {taken:5.1f}  {name}", markup=False, highlight=False)
    failed = [outcome.part for outcome in outcomes if not outcome.passed]
    if failed:
        console.print(f"failed: {', '.join(part.name for part in failed)}", markup=False, highlight=False)
        for name, reason in failures(failed):
            console.print(f"  {name}: {reason[:WIDEST]}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
