"""Writes what the planes count and what ``tfgateway state`` says, for node_exporter's textfile collector.

``textfile.py FILE``; standard library only. A plane that does not answer is left out, and counts as
down; FILE is complete or not written at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PROGRAM = "/opt/tfgateway/current/bin/tfgateway"
PLANES = {"reconciler": 9153, "dns": 9154, "proxy": 9155, "fourtosix": 9156}  # on loopback
PREFIX = "tfgateway_"
TIMEOUT = 20  # seconds

Families = dict[str, tuple[list[str], list[str]]]


def merge(text: str, families: Families) -> None:
    """Add a plane's own families to ``families``: name to (comments, samples); several planes may have one family."""
    name = ""
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            name = line.split(" ", 3)[2]
            if name.startswith(PREFIX):
                comments = families.setdefault(name, ([], []))[0]
                if not any(line.split(" ", 3)[1] == other.split(" ", 3)[1] for other in comments):
                    comments.append(line)
        elif line.startswith(PREFIX) and name.startswith(PREFIX):
            samples = families[name][1]
            if line not in samples:
                samples.append(line)


def gauge(families: Families, name: str, text: str, samples: dict[str, float]) -> None:
    """Add a family of our own; samples by their labels, braces included."""
    comments = [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
    families[name] = (comments, [f"{name}{labels} {value}" for labels, value in samples.items()])


def planes(families: Families) -> None:
    """Ask every plane for its metrics."""
    up = {}
    for plane, port in PLANES.items():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT) as answer:
                merge(answer.read().decode(), families)
            up[f'{{plane="{plane}"}}'] = 1.0
        except (OSError, ValueError):
            up[f'{{plane="{plane}"}}'] = 0.0
    gauge(families, "tfgateway_plane_up", "1: the plane's metrics were there", up)


def state(families: Families) -> None:
    """Ask the gateway whether it serves what is reserved."""
    found: dict[str, object] = {}
    try:
        done = subprocess.run([PROGRAM, "state", "--json"], capture_output=True, timeout=TIMEOUT, check=True)  # noqa: S603
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"tfgateway state: {error}", file=sys.stderr)  # noqa: T201
    add_state(found, families)


def add_state(found: dict[str, object], families: Families) -> None:
    """Add what ``tfgateway state --json`` said; empty: it did not answer."""
    gauge(families, "tfgateway_state_ok", "1: `tfgateway state` answered", {"": float(bool(found))})
    summary, problems = found.get("summary"), found.get("problems")
    if isinstance(summary, dict) and isinstance(problems, list):
        verdicts = {f'{{verdict="{verdict}"}}': float(count) for verdict, count in sorted(summary.items())}
        gauge(families, "tfgateway_state_reservations", "Reservations by verdict, the planes asked", verdicts)
        gauge(families, "tfgateway_state_problems", "What kept the look incomplete", {"": float(len(problems))})
    gauge(families, "tfgateway_state_time_seconds", "When this was written", {"": time.time()})


def main(target: Path) -> None:
    """Write ``target``."""
    families: Families = {}
    planes(families)
    state(families)
    partial = target.with_suffix(".partial")
    lines = [line for comments, samples in families.values() for line in (*comments, *samples)]
    partial.write_text("\n".join(lines) + "\n")
    partial.chmod(0o644)
    os.replace(partial, target)  # noqa: PTH105


if __name__ == "__main__":
    main(Path(sys.argv[1]))
