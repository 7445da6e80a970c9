"""A host in a container that becomes an explorer by the collection's playbook, and what an operator does with it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from testbed import playbook
from testbed.containers import certificate, podman
from testbed.containers.fleet import Fleet
from testbed.paths import CACHE, ROOT
from testbed.playbook import Recap

NAME = "explorer.example"


class Explorer:
    """The host, and what an operator does with it."""

    def __init__(self, wanted: Fleet, directory: Path) -> None:
        (self._node,) = wanted.nodes
        self._fleet = wanted
        self._directory = directory
        self.tls = directory / "tls"
        self.new_certificate()

    def new_certificate(self) -> None:
        shutil.rmtree(self.tls, ignore_errors=True)
        certificate.ensure(self.tls, [NAME])

    def provision(self, *options: str) -> Recap:
        host = {
            "ansible_host": self.address,
            "ansible_user": "root",
            "gateway_cache": str(CACHE),
            "ansible_ssh_private_key_file": str(self._fleet.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self._directory}/known_hosts -o IdentitiesOnly=yes",
            "explorer_tls_certificate": (self.tls / "certificate.pem").read_text(),
            "explorer_tls_key": (self.tls / "key.pem").read_text(),
        }
        inventory = self._directory / "inventory.yml"  # YAML, as all JSON is
        inventory.touch(mode=0o600)
        inventory.write_text(json.dumps({"explorer": {"hosts": {self._node.name: host}}}))
        command = ["ansible-playbook", "playbooks/explorer.yml", "-i", str(inventory), *options]
        done = subprocess.run(command, cwd=ROOT, env=playbook.environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (self.tls / "key.pem").read_text().splitlines()[1] not in done.stdout
        (recap,) = filter(None, map(playbook.parse_recap, done.stdout.splitlines()))
        return recap

    @property
    def address(self) -> str:
        return self._fleet.address(self._node.host)

    def run(self, script: str) -> str:
        return podman.run("exec", self._node.name, "sh", "-ec", script)

    def users(self) -> list[str]:
        """Names of the registered users, asked for from outside."""
        command = [
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "10",
            "--cacert",
            str(self.tls / "certificate.pem"),
        ]
        url = f"https://{NAME}/api/v1/users"
        done = subprocess.run(
            [*command, "--resolve", f"{NAME}:443:{self.address}", url], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [user["name"] for user in json.loads(done.stdout)]

    def register(self, name: str) -> None:
        self.run(
            f"SSL_CERT_FILE=/etc/tfgateway-explorer/tls.crt tfgateway reserve --explorer https://{NAME}/api/v1"
            f" register --name {name} --email {name}@people.example --output /root/{name}.seed"
        )
