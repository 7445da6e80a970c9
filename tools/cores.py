"""``ansible-test sanity`` on the tarball by every ansible-core that the collection supports, and a record of what ran.

``python -m tools.cores [CORE ...]``. Each that had no issue is recorded; `make reference` renders the record into
``docs/reference/tested-with.md``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tools import locked, sanity
from tools.reference.markdown import table
from tools.tree import ROOT

RECORD = ROOT / "docs" / "reference" / "cores.json"
# The oldest Python of the controllers that it runs on, which is what the collection needs at least too.
CORES = {"2.16": "3.10", "2.17": "3.10", "2.18": "3.11", "2.19": "3.11", "2.20": "3.12", "2.21": "3.12"}
HEAD = """
## Cores

Issues are those of `ansible-test sanity`, all of it, on the tarball that `make release` makes: `make test-long
PART=cores`. The playbooks were run by `make test-long PART=artefact`: of that tarball, installed read-only, from a venv
of its own, on two distributions.

"""


def main(arguments: list[str]) -> int:
    """Exit code: 1 when one of them has an issue."""
    failed = []
    sanity.prepare()
    for core in arguments or CORES:
        python = locked.at_hand(CORES[core])
        if python is None:
            print(f"SKIPPED ansible-core {core}: there is no Python {CORES[core]} here")
            continue
        binaries = locked.binaries(f"cores/{core}", python)
        if sanity.sanity(binaries, CORES[core], [], python.parent):
            failed.append(core)
            continue
        keep(core, release=release(binaries), python=CORES[core])
    print(f"issues with: {', '.join(failed)}" if failed else "no issues")
    return 1 if failed else 0


def keep(core: str, **found: str) -> None:
    """Record what was found with a core, beside what is known of it."""
    record: dict[str, dict[str, str]] = json.loads(RECORD.read_text())
    record[core] = record.get(core, {}) | found
    RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=2) + "\n")


def render() -> str:
    """Its section of the page."""
    record: dict[str, dict[str, str]] = json.loads(RECORD.read_text())
    rows = [
        (f"ansible-core {ran['release']}", f"Python {ran['python']}", "none", ran.get("playbooks", "not yet"))
        for ran in record.values()
    ]
    return HEAD + table(("By", "On", "Issues", "Playbooks, on"), rows)


def release(binaries: Path) -> str:
    """The exact release of the ansible-core in ``binaries``."""
    ask = "import ansible.release; print(ansible.release.__version__)"
    return subprocess.run([binaries / "python", "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
