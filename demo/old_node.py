"""What the user of an old node has reserved; ``python -m demo.old_node`` reserves it, in scenario cutover."""

from __future__ import annotations

from demo import fleet, reservations
from demo.paths import ROOT
from demo.person import Person
from demo.reservations import DELEGATED, SITE, Wanted, managed_domain

FLEET = fleet.load(ROOT / "molecule" / "cutover" / "fleet.toml")
NODE = FLEET.nodes[0]
NAME = f"www.{managed_domain(NODE)}"
ADDRESS = "203.0.113.5"


def main() -> None:
    """Reserve, and wait until the node serves it."""
    alice = Person(FLEET, "alice")
    alice.register()
    node_ids = reservations.registered(FLEET, alice)
    for group in (
        [
            Wanted(NODE, "subdomain", "subdomain", NAME, (f"--ip={ADDRESS}",)),
            Wanted(NODE, "delegate", "domain_delegate", DELEGATED),
        ],
        [Wanted(NODE, "proxy", "proxy", SITE, (f"--addr={FLEET.web_address}", "--port=80", "--port-tls=443"))],
    ):
        reservations.make(alice, group, node_ids)


if __name__ == "__main__":
    main()
