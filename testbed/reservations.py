"""What the user of a fleet reserves, and how it comes to be served."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from testbed.containers.fleet import Fleet, Node
from testbed.errors import FleetError
from testbed.inventory import SUFFIXES
from testbed.person import Person

DELEGATED = "alice.example"
SITE = f"web.{DELEGATED}"
HOME = f"home.{DELEGATED}"
_PATIENCE = 90  # seconds for a gateway to register or to deploy


@dataclass(frozen=True, slots=True)
class Wanted:
    """One reservation: the arguments of ``tfgateway reserve create KIND``, and the explorer's name of the type.

    domain: empty for a type that has none, of which the user has one.
    """

    node: Node
    kind: str
    type_name: str
    domain: str
    options: tuple[str, ...] = ()


def managed_domain(node: Node, suffix: str = SUFFIXES[0]) -> str:
    """The domain that a node manages by the naming rule of the fleet."""
    return f"{node.name.replace('tf-gateway-', 'tfgw-', 1)}.{suffix}"


def wireguard_key(fleet: Fleet) -> Path:
    """Where the user has the private key of her tunnel."""
    return fleet.directory / "alice.wireguard"


def tunnel_secret(fleet: Fleet) -> Path:
    """Where she has the secret of her reverse tunnel."""
    return fleet.directory / "home" / "secret"


def wanted(fleet: Fleet) -> list[list[Wanted]]:
    """The reservations in groups: a group needs the one before it."""
    first, second = fleet.nodes[:2]
    addresses = ("--ip=203.0.113.5", "--ip=2001:db8::5")
    return [
        [
            Wanted(first, "subdomain", "subdomain", f"www.{managed_domain(first)}", addresses),
            Wanted(
                second, "subdomain", "subdomain", f"www.{managed_domain(second, SUFFIXES[1])}", ("--ip=203.0.113.6",)
            ),
            Wanted(first, "delegate", "domain_delegate", DELEGATED),
            Wanted(first, "4to6", "gateway4to6", "", (f"--key-file={wireguard_key(fleet)}",)),
        ],
        [
            Wanted(first, "subdomain", "subdomain", SITE, (f"--ip={fleet.address(first.host)}",)),
            Wanted(first, "proxy", "proxy", SITE, (f"--addr={fleet.web_address}", "--port=80", "--port-tls=443")),
            Wanted(first, "subdomain", "subdomain", HOME, (f"--ip={fleet.address(first.host)}",)),
            Wanted(first, "reverse-proxy", "reverse_proxy", HOME, (f"--secret-file={tunnel_secret(fleet)}",)),
        ],
    ]


def registered(fleet: Fleet, person: Person) -> dict[str, str]:
    """Node id by inventory name, once every node is in the explorer's directory. Errors: ``FleetError``."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        by_domain = {
            domain: entry["node_id"] for entry in person.reserve("gateways") for domain in entry["managed_domains"]
        }
        missing = [node.name for node in fleet.nodes if managed_domain(node) not in by_domain]
        if not missing:
            return {node.name: by_domain[managed_domain(node)] for node in fleet.nodes}
        if time.monotonic() > deadline:
            hint = f"look with: podman exec {missing[0]} journalctl -u tfgateway"
            raise FleetError(f"not registered at the explorer: {', '.join(missing)}; {hint}")
        time.sleep(0.5)


def make(person: Person, group: list[Wanted], node_ids: dict[str, str]) -> tuple[int, int]:
    """Create what is not there yet and wait until all are deployed; (made, found). Errors: ``FleetError``."""
    there = {
        (line["type"], line["domain"]): line["id"] for line in person.reserve("list") if line["status"] != "failed"
    }
    ids, made = [], 0
    for item in group:
        known = there.get((item.type_name, item.domain))
        if known is None:
            named = ("--domain", item.domain) if item.domain else ()
            at = ("--node", node_ids[item.node.name])
            known = person.reserve("create", item.kind, *named, *at, *item.options)["id"]
            made += 1
        ids.append(str(known))
    person.reserve("wait", "--timeout", str(_PATIENCE), *ids)
    return made, len(group) - made
