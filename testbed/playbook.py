"""Runs Ansible's own commands on a fleet, as an operator would."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass

from testbed.containers import podman
from testbed.containers.fleet import Fleet
from testbed.errors import FleetError
from testbed.paths import ROOT, VENV_BIN
from testbed.progress import Step

_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\]")
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")


@dataclass(frozen=True, slots=True)
class Recap:
    """One host's line of PLAY RECAP."""

    host: str
    ok: int
    changed: int
    unreachable: int
    failed: int


def environment() -> dict[str, str]:
    """Ansible of this tree first on PATH; plain output, so that logs are readable."""
    base = podman.environment()
    return {
        **base,
        "PATH": f"{VENV_BIN}{os.pathsep}{base['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }


def command(fleet: Fleet, *options: str) -> list[str]:
    """The operator's command line, as it can be typed in the repository."""
    return ["ansible-playbook", "site.yml", "-i", f"{fleet.state}/inventory.yml", *options]


def run(fleet: Fleet, step: Step, *options: str) -> list[Recap]:
    """Run ``site.yml``; its tasks pass by behind the spinner, everything goes to the log. Errors: ``FleetError``."""
    with step.log.open("w") as log:
        process = subprocess.Popen(
            command(fleet, *options),
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None  # noqa: S101  (asked for above)
        recaps = []
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                task = _TASK.match(line)
                if task:
                    step.live(task[1])
                recap = parse_recap(line)
                if recap:
                    recaps.append(recap)
        finally:
            process.wait()  # after Ctrl-C too: Ansible gets the signal as well, and leaves its hosts in order
    if process.returncode != 0:
        raise FleetError("ansible-playbook site.yml failed", log=step.log)
    return recaps


def parse_recap(line: str) -> Recap | None:
    """A host's counts from a line of PLAY RECAP; None for any other line."""
    found = _RECAP.match(line)
    if not found:
        return None
    return Recap(found[1], *(int(number) for number in found.groups()[1:]))


def ad_hoc(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An ``ansible`` command on the fleet."""
    return subprocess.run(
        ["ansible", "-i", f"{fleet.state}/inventory.yml", *arguments],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
