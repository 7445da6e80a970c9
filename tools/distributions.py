"""What ``make test-distributions`` runs: a node of each distribution, and why one that is known was left out.

What the nodes of scenario ``distributions`` were found to be is kept in ``docs/reference/distributions.json``, and
rendered into ``docs/reference/tested-with.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from testbed.containers import fleet, image
from tools.parts import LOGS, ROOT, Outcome, Part, scenario

FACTS = LOGS / "distributions.json"
RECORD = ROOT / "docs" / "reference" / "distributions.json"
_NEWEST = "debian-13"


def _on_newest(name: str) -> Part:
    """A scenario of Debian 12, on the newest."""
    part = scenario(f"molecule-{name}-{_NEWEST}", name)
    return replace(part, environment=part.environment | {fleet.SYSTEM_VARIABLE: _NEWEST})


PARTS: list[Part] = [
    scenario("molecule-distributions", "distributions"),
    scenario("molecule-prod", "prod"),
    scenario("molecule", "default"),
    _on_newest("cutover"),
    _on_newest("upgrade"),
]


def kind(system: str) -> str:
    """What an image of ``image.SYSTEMS`` is."""
    wanted = image.SYSTEMS[system]
    if wanted.from_registry:
        return "an image of a registry"
    return "stand-in, on Debian's packages" if wanted.stand_in else "Debian's packages"


def systems(part: Part) -> dict[str, str]:
    """Systems of the nodes of its scenario; each with why it has no image here, or an empty text."""
    if chosen := part.environment.get(fleet.SYSTEM_VARIABLE):
        return {chosen: ""}
    nodes = fleet.load_all(ROOT / "molecule" / part.commands[0][-1] / "fleet.toml").nodes
    return {node.system: fleet.left_out(node) for node in nodes}


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each distribution: passed, FAILED or not run, with the scenario or the reason."""
    for outcome in outcomes:
        for system, reason in systems(outcome.part).items():
            name = system.removeprefix("real-")
            if reason:
                yield f"  not run  {name}: {reason}"
            else:
                yield f"  {'passed' if outcome.passed else 'FAILED'}   {name} ({kind(system)}) by {outcome.part.name}"


def record(outcomes: Sequence[Outcome]) -> str:
    """Keep what the nodes were found to be, when they passed; the name of the file, if that is another than before."""
    passed = any(outcome.passed and outcome.part.name == "molecule-distributions" for outcome in outcomes)
    if not (passed and FACTS.exists()):
        return ""
    found: dict[str, Any] = {node.pop("name"): node for node in json.loads(FACTS.read_text())}
    known: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if known | found == known:
        return ""
    RECORD.write_text(json.dumps(known | found, indent=2) + "\n")
    return str(RECORD.relative_to(ROOT))
