"""The inventory of a fleet: how Ansible reaches its nodes, and what the roles need to know about it."""

from __future__ import annotations

from typing import Any

import yaml

from demo.fleet import Fleet


def render(fleet: Fleet) -> str:
    """Inventory as YAML."""
    hosts = {node.name: {"ansible_host": fleet.address(node.host)} for node in fleet.nodes}
    ssh_options = {
        "UserKnownHostsFile": str(fleet.known_hosts),
        "StrictHostKeyChecking": "accept-new",
        "IdentitiesOnly": "yes",
    }
    variables: dict[str, Any] = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_port": 22,
        "ansible_ssh_private_key_file": str(fleet.key),
        "ansible_ssh_common_args": " ".join(f"-o {name}={value}" for name, value in ssh_options.items()),
    }
    text: str = yaml.safe_dump({"gateways": {"hosts": hosts, "vars": variables}}, sort_keys=False, width=120)
    return text


def write(fleet: Fleet) -> None:
    """Write ``inventory.yml`` into the fleet's state directory."""
    (fleet.directory / "inventory.yml").write_text(render(fleet))
