"""Who runs the installed collection: its playbooks by their names, on an inventory, in a directory of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.artefact import Installed


class Operator:
    """Runs playbooks of the installed collection, by their names, on an inventory."""

    def __init__(self, installed: Installed, inventory: Path, directory: Path) -> None:
        self.installed = installed
        self.inventory = inventory
        self.directory = directory

    def run(self, name: str, *options: str, **variables: object) -> subprocess.CompletedProcess[str]:
        given = f"--extra-vars={json.dumps(variables)}"
        command = ["ansible-playbook", f"tfgrid.gateway.{name}", "-i", str(self.inventory), given, *options]
        ssh = "-o ControlMaster=auto -o ControlPersist=60s -o StrictHostKeyChecking=accept-new"  # as in ansible.cfg
        return self.installed.run(*command, directory=self.directory, ANSIBLE_SSH_ARGS=ssh, ANSIBLE_PIPELINING="1")

    def done(self, name: str, *options: str, **variables: object) -> str:
        ended = self.run(name, *options, **variables)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout
