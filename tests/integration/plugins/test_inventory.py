"""Inventory plugin ``explorer`` by ``ansible-inventory``, against a real explorer."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Gateway, Location
from tfgateway.identity.keys import Identity

from tests.support.ansible_module import ROOT


def register(
    world: Any, number: int, farm_id: int, name_server: str, country: str, *, os_version: str = "0.1.0+b1b6bb3af2b9"
) -> str:
    """A gateway of the directory; its node id."""
    identity = Identity.from_seed(bytes([number]) * 32)
    entry = Gateway(
        node_id=identity.node_id,
        farm_id=farm_id,
        os_version=os_version,
        public_key_hex=identity.public_key.hex(),
        location=Location(city="Gent", country=country),
        managed_domains=(f"gw{number}.example",),
        dns_nameserver=(name_server,),
    )

    domain = ("--managed-domain", f"gw{number}.example")
    world.reserve("farm", "admit", "--farm", str(farm_id), "--node", identity.node_id, *domain)

    async def main() -> None:
        async with ExplorerClient(world.explorer.url, identity=identity, key_id=identity.node_id) as client:
            await client.register_gateway(entry)

    asyncio.run(main())
    return identity.node_id


class Inventory:
    """An inventory file, asked by Ansible's own command."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        self.stderr = ""

    def ask(self, code: int = 0, whole: bool = False, **options: Any) -> dict[str, Any]:
        file = self.directory / "fleet.explorer.yml"
        file.write_text(
            json.dumps({"plugin": "tfgrid.gateway.explorer", "url": self.url, "farm_ids": [1], "timeout": 5, **options})
        )
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_INVENTORY_ENABLED": "tfgrid.gateway.explorer,ansible.builtin.yaml",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [
            str(Path(sys.executable).with_name("ansible-inventory")),
            "-i",
            str(file.parent if whole else file),
            "--list",
        ]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        self.stderr = " ".join(done.stderr.split())
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if code == 0 else {}


@pytest.fixture
def inventory(world: Any, tmp_path: Path) -> Inventory:
    world.reserve("farm", "create", "--name", "others")
    register(world, 1, 1, "tf-gateway-01.example", "Belgium")
    register(world, 2, 1, "tf-gateway-02.example", "{{ 1/0 }}", os_version="Ubuntu 18.04")
    register(world, 3, 2, "tf-gateway-03.example", "Belgium")
    return Inventory(tmp_path, world.explorer.url)


def test_gateways_of_the_farm_in_their_groups_and_never_a_template(inventory: Inventory) -> None:
    found = inventory.ask(
        strict=True,
        compose={"ansible_port": "34022", "where": "tfgrid_city ~ ', ' ~ tfgrid_country"},
        keyed_groups=[{"key": "tfgrid_city", "prefix": "city"}],
    )
    first, second = "tf-gateway-01", "tf-gateway-02"
    assert found["gateways"]["hosts"] == found["farm_1"]["hosts"] == found["city_Gent"]["hosts"] == [first, second]
    assert found["country_belgium"]["hosts"] == found["domain_gw1_example"]["hosts"] == [first]
    assert found["os_ubuntu_18_04"]["hosts"] == [second]
    assert found["version_0_1_0"]["hosts"] == [first]
    assert [group for group in found if "b1b6bb3" in group or group.startswith("os_0")] == []
    assert "farm_2" not in found
    facts = found["_meta"]["hostvars"][second]
    assert facts["ansible_port"] == 34022
    country = facts["tfgrid_country"]
    assert (country["__ansible_unsafe"] if isinstance(country, dict) else country) == "{{ 1/0 }}"


def test_without_the_explorer_cache_then_file_then_an_error(inventory: Inventory, world: Any) -> None:
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(world.directory / "c")}
    saved = world.directory / "gateways.json"
    saved.write_text(json.dumps([*world.reserve("gateways"), {"farm_id": 1, "node_id": "?"}, "nonsense"]))
    hosts = inventory.ask(**cache)["gateways"]["hosts"]
    world.explorer.stop()
    assert inventory.ask(**cache)["gateways"]["hosts"] == hosts
    assert inventory.ask(fallback="gateways.json")["gateways"]["hosts"] == hosts
    assert "stands in for it" in inventory.stderr
    assert "no usable name; it is left out" in inventory.stderr
    inventory.ask(code=1)
    assert "no fallback is configured" in inventory.stderr
    inventory.ask(code=1, fallback="gateways.json", strict=True)


@pytest.mark.parametrize("before", [True, False], ids=["static-last", "static-first"])
def test_with_a_static_inventory_it_is_one_fleet(inventory: Inventory, tmp_path: Path, before: bool) -> None:
    """Ansible reads the sources of a directory by their names. What the static one says of a host stays."""
    static = {"gateways": {"hosts": {"tf-gateway-01": {"ansible_host": "192.0.2.1"}, "tf-gateway-09": {}}}}
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / ("z.yml" if before else "a.yml")).write_text(yaml.safe_dump(static))
    inventory.directory = folder
    found = inventory.ask(whole=True)
    assert sorted(found["gateways"]["hosts"]) == ["tf-gateway-01", "tf-gateway-02", "tf-gateway-09"]
    variables = found["_meta"]["hostvars"]
    assert variables["tf-gateway-01"]["ansible_host"] == "192.0.2.1"
    assert variables["tf-gateway-01"]["tfgrid_farm_id"] == 1
    address = variables["tf-gateway-02"]["ansible_host"]
    assert (address["__ansible_unsafe"] if isinstance(address, dict) else address) == "tf-gateway-02.example"


def test_two_gateways_of_one_short_name_are_two_hosts(inventory: Inventory, world: Any) -> None:
    register(world, 4, 1, "tf-gateway-01.elsewhere.example", "Belgium")
    hosts = inventory.ask(strict=True)["gateways"]["hosts"]
    assert sorted(hosts) == ["tf-gateway-01", "tf-gateway-01.elsewhere.example", "tf-gateway-02"]


def test_gateways_of_two_sources_with_one_short_name_are_two_hosts(
    inventory: Inventory, world: Any, tmp_path: Path
) -> None:
    register(world, 5, 2, "tf-gateway-01.others.example", "Belgium")
    folder = tmp_path / "fleet"
    folder.mkdir()
    inventory.directory = folder
    more = {"plugin": "tfgrid.gateway.explorer", "url": world.explorer.url, "farm_ids": [2]}
    (folder / "others.explorer.yml").write_text(json.dumps(more))
    found = inventory.ask(whole=True)
    assert sorted(found["farm_1"]["hosts"]) == ["tf-gateway-01", "tf-gateway-02"]
    assert sorted(found["farm_2"]["hosts"]) == ["tf-gateway-01.others.example", "tf-gateway-03"]
