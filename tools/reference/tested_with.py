"""``docs/reference/tested-with.md``: controllers, cores, and nodes as ``make test-distributions`` found them."""

from __future__ import annotations

import json

from testbed.containers import image
from tools import cores, distributions
from tools.reference.markdown import table

HEAD = """# Tested with

| | |
|---|---|
| Controller | Debian 12, Python 3.11, ansible-core 2.19, 2.16 for the stand-ins; the others as below |
| Modules | also by Python 3.6 with ansible-core 2.16 |
| Collections | those of ansible 9.13, 12.3 and 14.5; ansible-core 2.20 warns of an older `ansible.posix` than 2.2 |
| Explorer | `tfgateway explorer`, and requests as old clients compose them |
| Written for, not run | cgroup v2 hosts |

Nodes need systemd and nothing else: no Python, compiler or package index. Where a node's Python is older than 3.11, or
its redis older than 6.0, the controller brings one.
"""
DISTRIBUTIONS = """
## Distributions

`make test-distributions` runs them in systemd containers. By scenario `distributions` each is provisioned, in check
mode first, and again; serves what was reserved; is upgraded and rolled back, backed up, removed, and restored after it
has lost all data.

"""
FOUND = """
What was found on the nodes when that last passed. A set-up is how the host was before Ansible came
(`molecule/distributions/prepare.sh`).

"""


def render() -> str:
    """The whole page."""
    return (
        HEAD
        + cores.render()
        + DISTRIBUTIONS
        + table(("Distribution", "Image", "Run"), _systems())
        + FOUND
        + table(_COLUMNS, _nodes())
    )


def _systems() -> list[tuple[str, str, str]]:
    """A line a system, with the scenarios of its nodes."""
    record = _record()
    ran = {node["system"] for node in record.values()}
    lines = []
    for system in image.SYSTEMS:
        parts = [part for part in distributions.PARTS if system in distributions.systems(part)]
        scenarios = ", ".join(f"`{part.commands[0][-1]}`" for part in parts)
        if scenarios == "`distributions`" and system not in ran:
            scenarios = "not yet"
        if image.SYSTEMS[system].from_registry:
            scenarios += f", where `{image.REGISTRY_VARIABLE}` names a registry"
        lines.append((_title(system), distributions.kind(system), scenarios))
    return lines


_COLUMNS = ("Distribution", "systemd", "OpenSSH", "C library", "Python", "Redis", "Set-up")


def _nodes() -> list[tuple[str, ...]]:
    return [
        (
            node["title"],
            node["systemd"],
            node["openssh"],
            node["libc"],
            f"{node['python']}, {node['interpreter']}",
            node["redis"],
            node["setup"],
        )
        for node in _record().values()
    ]


def _record() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(distributions.RECORD.read_text())
    return found


def _title(system: str) -> str:
    name, _, release = system.removeprefix("real-").partition("-")
    return f"{name.capitalize()} {release}".strip()
