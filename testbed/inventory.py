"""How the nodes of a fleet are reached: the inventory for Ansible, and an ssh configuration for people."""

from __future__ import annotations

import platform
from typing import Any

import yaml

from testbed.containers import compiled, image, interpreter
from testbed.containers.fleet import Fleet, Node
from testbed.containers.interpreter import Archive
from testbed.farm import Farm
from testbed.paths import CACHE, VENV_BIN

SUFFIXES = ("gateway.example", "3x0.example")
_SSH_PORT = 34022


def write(fleet: Fleet, farm: Farm | None) -> None:
    """Write ``inventory.yml`` into the fleet's state directory; without a farm only the way in is known."""
    path = fleet.directory / "inventory.yml"
    path.touch(mode=0o600)
    path.write_text(render(fleet, farm))
    (fleet.directory / "ssh_config").write_text(ssh_config(fleet))


def ssh_config(fleet: Fleet) -> str:
    """For ``ssh -F``: the nodes by their names, at the port that provisioning opens."""
    blocks = [f"Host {node.name}\n  HostName {fleet.address(node.host)}\n" for node in fleet.nodes]
    common = {
        "User": "root",
        "Port": _SSH_PORT,
        "IdentityFile": fleet.key,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": fleet.known_hosts,
        "StrictHostKeyChecking": "accept-new",
    }
    return "".join([*blocks, "Host *\n", *(f"  {name} {value}\n" for name, value in common.items())])


def render(fleet: Fleet, farm: Farm | None) -> str:
    """The inventory as YAML."""
    ssh_options = f"-o UserKnownHostsFile={fleet.known_hosts} -o IdentitiesOnly=yes"
    variables: dict[str, Any] = {
        "ansible_user": "root",
        "ansible_port": _SSH_PORT,
        "ansible_ssh_private_key_file": str(fleet.key),
        "ansible_ssh_common_args": ssh_options,
        "gateway_cache": str(CACHE),
    }
    hosts: dict[str, dict[str, Any]] = {node.name: {"ansible_host": fleet.address(node.host)} for node in fleet.nodes}
    for node in fleet.nodes:
        hosts[node.name] |= _variables_of_system(node)
        if node.group:
            hosts[node.name]["gateway_group"] = node.group
    if farm is not None:
        variables |= {
            "gateway_explorer_url": fleet.explorer_url,
            "gateway_farm_id": farm.farm_id,
            "gateway_domain_suffixes": list(SUFFIXES),
            "gateway_proxy_allowed_targets": [f"{fleet.web_address}/32"],
            "gateway_geoip_url": "",  # a fleet in containers asks nobody outside
            "gateway_poll_interval": 2,
        }
        if farm.seed is not None:
            variables |= {"gateway_farm_seed": str(farm.seed), "gateway_farm_program": str(VENV_BIN / "tfgateway")}
        # One identity from words, as a node that is installed again has; the other nodes make theirs.
        first = fleet.nodes[0]
        for node in [one for one in fleet.nodes if one is first or (one.group and one.group == first.group)]:
            hosts[node.name] |= {"identity_words": farm.node_words, "identity_threebot_id": farm.threebot_id}
        for group in {node.group for node in fleet.nodes} - {""}:
            members = [node.name for node in fleet.nodes if node.group == group and not node.sentinel]
            for name in members:
                hosts[name]["gateway_managed_domains"] = [f"tfgw-{group}.{suffix}" for suffix in SUFFIXES]
                hosts[name]["gateway_name_servers"] = [f"{member}.{SUFFIXES[0]}" for member in members]
    groups: dict[str, Any] = {"gateways": {"vars": variables, "hosts": hosts}}
    if sentinels := {node.name: hosts.pop(node.name) for node in fleet.nodes if node.sentinel}:
        groups["sentinels"] = {"vars": variables, "hosts": sentinels}
    text: str = yaml.safe_dump(groups, sort_keys=False, width=200)
    return text


def _variables_of_system(node: Node) -> dict[str, Any]:
    """What a node of that image needs."""
    variables: dict[str, Any] = {}
    if node.system == "ubuntu-18.04":
        variables["wireguard_fallback_package"] = "wireguard-go"  # it has Debian's packages
        if node.own_python and image.old_python():
            variables["ansible_python_interpreter"] = image.old_python()
    archive = _archive(node.system)
    if archive is not None:
        source = {"url": archive.path.as_uri(), "sha256": archive.sha256}
        variables["interpreter_archives"] = {platform.machine(): source}
    return variables


def _archive(system: str) -> Archive | None:
    """The interpreter that is brought to nodes of a system; None: that of production, or none is needed."""
    if system == "ubuntu-18.04":
        return interpreter.ensure()
    if system in compiled.SYSTEMS:
        return compiled.ensure(system, CACHE / "interpreters" / f"{system}.log")
    return None
