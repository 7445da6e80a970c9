"""Where a run of the installed collection leaves its files: beside the inventory, never below the collection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tfgateway.identity import seedfile

from tests.support.artefact import Installed, install
from tests.support.processes import RedisServer

HOST = "tf-gateway-a"


class Operator:
    """Somebody who runs playbooks by their names, on one gateway that is this machine, with a redis of its own."""

    def __init__(self, directory: Path, installed: Installed, redis_server: RedisServer) -> None:
        self.directory = directory / "fleet"
        self.elsewhere = directory / "elsewhere"
        self.installed = installed
        for made in (self.directory, self.elsewhere):
            made.mkdir()
        seedfile.create(directory / "a.seed", bytes(range(32)), 12)
        settings = directory / "gateway.toml"
        settings.write_text(f'[identity]\nseed = "{directory / "a.seed"}"\n[redis]\nurl = "{redis_server.url}"\n')
        self.tfgateway = Path(sys.executable).with_name("tfgateway")
        program = directory / "tfgateway"
        program.write_text(f'#!/bin/sh\nexec {self.tfgateway} --config {settings} "$@"\n')
        program.chmod(0o755)
        self.key = directory / "operator.key"
        made_key = [self.tfgateway, "backup", "generate-key", "--output", self.key]
        recipient = subprocess.run(made_key, capture_output=True, text=True, check=True).stdout.strip()
        self.variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "backup_recipient": recipient,
            "backup_program": str(program),
            "gateway_explorer_url": "http://127.0.0.1:9/api/v1",
            "gateway_farm_id": 1,
        }

    def inventory(self, path: Path, **variables: object) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"gateways": {"hosts": {HOST: {}}, "vars": self.variables | variables}}))
        return path

    def run(self, playbook: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
        """From another directory than that of the inventory."""
        command = ["ansible-playbook", f"tfgrid.gateway.{playbook}", *map(str, options)]
        before = self.installed.contents()
        done = self.installed.run(*command, directory=self.elsewhere)
        assert self.installed.contents() == before
        return done

    def done(self, playbook: str, *options: str | Path) -> str:
        ended = self.run(playbook, *options)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def refused(self, playbook: str, *options: str | Path) -> str:
        ended = self.run(playbook, *options)
        assert ended.returncode != 0, ended.stdout
        return " ".join(ended.stdout.split())


@pytest.fixture
def operator(tmp_path: Path, installed: Installed, redis_server: RedisServer) -> Operator:
    return Operator(tmp_path, installed, redis_server)


def test_backups_lie_beside_the_inventory_and_outlive_the_next_installation(operator: Operator, tarball: Path) -> None:
    inventory = operator.inventory(operator.directory / "inventory.yml")
    said = operator.done("backup", "-i", inventory)
    (backup,) = (operator.directory / "backups").iterdir()
    assert f"{backup}: 0 keys of redis, and the seed" in said
    assert backup.parent.stat().st_mode & 0o777 == 0o700
    install(tarball, operator.installed.home.parent)
    assert backup.exists()
    # Restore finds it by its name: it gets as far as the inventory, whose mistake ends it before it looks at a host.
    asked = ["-i", inventory, "-e", f"restore_key={operator.key}", "-e", "gateway_farm_id=0"]
    assert "gateway_farm_id of tf-gateway-a is missing" in operator.refused(
        "restore", *asked, "-e", f"restore_from={backup.name}"
    )
    said = operator.refused("restore", *asked, "-e", "restore_from=another.backup")
    assert f"there is no file {operator.directory}/backups/another.backup" in said


def test_beside_a_directory_of_inventories_and_not_in_it(operator: Operator, tmp_path: Path) -> None:
    """Ansible reads what is in it. The first of several sources counts; hosts that were named are none."""
    operator.inventory(operator.directory / "production" / "hosts.yml")
    other = operator.inventory(tmp_path / "other" / "inventory.yml")
    operator.done("backup", "-i", "tf-gateway-a,", "-i", operator.directory / "production", "-i", other)
    assert [path.name for path in sorted(operator.directory.iterdir())] == ["backups", "production"]
    assert [path.name for path in other.parent.iterdir()] == ["inventory.yml"]


def test_the_inventory_names_another_place_relative_to_its_own(operator: Operator, tmp_path: Path) -> None:
    inventory = operator.inventory(operator.directory / "inventory.yml", backup_directory="../kept")
    operator.done("backup", "-i", inventory)
    assert len(list((tmp_path / "kept").iterdir())) == 1


@pytest.mark.parametrize("playbook", ["backup", "reconcile"])
def test_a_place_below_the_collection_is_refused(operator: Operator, playbook: str) -> None:
    inventory = operator.inventory(operator.installed.root / "inventory.yml")
    said = operator.refused(playbook, "-i", inventory)
    assert "lies below the installed collection" in said
    assert "set backup_directory" in said or "set reconcile_report" in said


def test_a_report_lies_beside_the_inventory(operator: Operator) -> None:
    inventory = operator.inventory(operator.directory / "inventory.yml")
    said = operator.refused("reconcile", "-i", inventory)
    assert sorted(path.name for path in (operator.directory / "report").iterdir()) == ["report.html", "report.json"]
    assert f"{operator.directory}/report/report.html" in said
