"""A controller with plain Ansible and the tarball: what it lacks is said before a node is connected to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.support.artefact import Installed

INVENTORY = {
    "gateways": {
        "hosts": {"tf-gateway-a": {"ansible_host": "192.0.2.1", "identity_words": "abandon " * 23 + "art"}},
        "vars": {
            "gateway_explorer_url": "https://explorer.example/api/v1",
            "gateway_farm_id": 1,
            "ansible_ssh_executable": "/nonexistent/ssh",  # any attempt to connect would fail
        },
    }
}


def run(installed: Installed, binaries: Path, playbook: str, directory: Path) -> subprocess.CompletedProcess[str]:
    (directory / "inventory.yml").write_text(yaml.safe_dump(INVENTORY))
    controller = Installed(installed.tarball, installed.collections, directory, binaries)
    command = ["ansible-playbook", f"tfgrid.gateway.{playbook}", "-i", "inventory.yml"]
    return controller.run(*command, directory=directory, PATH="/usr/bin:/bin")


def test_site_says_what_is_missing_before_anything(installed: Installed, bare: Path, tmp_path: Path) -> None:
    done = run(installed, bare, "site", tmp_path)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "pip install uv" in said
    assert "pip install mnemonic" in said
    assert "dnspython" not in said  # another playbook needs it
    assert done.stdout.count("TASK [") == 2, done.stdout  # the first checks the arguments of the role
    assert "Traceback" not in done.stdout + done.stderr


def test_no_playbook_warns_before_its_first_task(installed: Installed, tmp_path: Path) -> None:
    """Neither of what is deprecated nor of the inventory that it is given."""
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(INVENTORY | {"explorer": {"hosts": {"tf-explorer": {}}}}))
    names = [f"tfgrid.gateway.{path.stem}" for path in sorted((installed.root / "playbooks").glob("*.yml"))]
    assert "tfgrid.gateway.site" in names
    command = ["ansible-playbook", "--list-tasks", "-i", "inventory.yml", *names]
    done = installed.run(*command, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_doctor_says_all_of_it_and_passes_with_all_of_it(installed: Installed, bare: Path, tmp_path: Path) -> None:
    done = run(installed, bare, "doctor", tmp_path)
    assert done.returncode != 0
    for package in ("uv", "mnemonic", "dnspython"):
        assert f"pip install {package}" in done.stdout
    whole = run(installed, installed.binaries, "doctor", tmp_path)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert '"dnspython": "' in whole.stdout
