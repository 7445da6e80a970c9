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
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Gateway, Location
from tfgateway.identity.keys import Identity

from tests.ansible_module import ROOT


def register(url: str, number: int, farm_id: int, name_server: str, country: str, *, os_version: str = "1.0") -> str:
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

    async def main() -> None:
        async with ExplorerClient(url, identity=identity, key_id=identity.node_id) as client:
            await client.register_gateway(entry)

    asyncio.run(main())
    return identity.node_id


class Inventory:
    """An inventory file, asked by Ansible's own command."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        self.stderr = ""

    def ask(self, code: int = 0, **options: Any) -> dict[str, Any]:
        file = self.directory / "fleet.explorer.yml"
        file.write_text(
            json.dumps({"plugin": "tfgrid.gateway.explorer", "url": self.url, "farm_ids": [1], "timeout": 5, **options})
        )
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_INVENTORY_ENABLED": "tfgrid.gateway.explorer",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(file), "--list"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        self.stderr = " ".join(done.stderr.split())
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if code == 0 else {}


@pytest.fixture
def inventory(world: Any, tmp_path: Path) -> Inventory:
    world.reserve("farm", "--name", "others")
    register(world.explorer.url, 1, 1, "tf-gateway-01.example", "Belgium")
    register(world.explorer.url, 2, 1, "tf-gateway-02.example", "{{ 1/0 }}", os_version="Ubuntu 18.04")
    register(world.explorer.url, 3, 2, "tf-gateway-03.example", "Belgium")
    return Inventory(tmp_path, world.explorer.url)


def test_gateways_of_the_farm_in_their_groups_and_never_a_template(inventory: Inventory) -> None:
    found = inventory.ask(
        strict=True,
        compose={"ansible_port": "34022", "where": "tfgrid_city ~ ', ' ~ tfgrid_country"},
        keyed_groups=[{"key": "tfgrid_city", "prefix": "city"}],
    )
    first, second = "tf-gateway-01.example", "tf-gateway-02.example"
    assert found["gateways"]["hosts"] == found["farm_1"]["hosts"] == found["city_Gent"]["hosts"] == [first, second]
    assert found["country_belgium"]["hosts"] == found["domain_gw1_example"]["hosts"] == [first]
    assert found["os_ubuntu_18_04"]["hosts"] == [second]
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
