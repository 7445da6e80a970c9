"""What the settings allow."""

from __future__ import annotations

import ipaddress
from typing import Any, cast

from tfgateway.identity.keys import Identity
from tfgateway.net.addresses import denied_reason, networks
from tfgateway.reconciler.cycle import Cycle
from tfgateway.reconciler.lookups.delegations import Delegations, ParentZones
from tfgateway.reconciler.lookups.proofs import ProofResolver, name_lookups
from tfgateway.reconciler.session import make_policy
from tfgateway.settings import FourToSixSettings, GatewaySettings, Settings


def test_p6_the_gateways_own_names_are_those_it_is_known_by() -> None:
    settings = Settings(
        gateway=GatewaySettings(name_servers=("TF-gateway-1.fleet.org", "ns2.fleet.org.")),
        fourtosix=FourToSixSettings(endpoint="Vpn.fleet.org:3443"),
    )
    policy = make_policy(settings, Identity.from_seed(bytes(32)))
    assert policy.own_names == {"tf-gateway-1.fleet.org", "ns2.fleet.org", "vpn.fleet.org"}
    assert make_policy(Settings(), Identity.from_seed(bytes(32))).own_names == frozenset()


def test_t15_addresses_that_lead_here_by_nat_are_the_gateways_own() -> None:
    settings = Settings(gateway=GatewaySettings(public_addresses=("198.51.100.1", "2001:db8::1")))
    policy = make_policy(settings, Identity.from_seed(bytes(32)))
    for address in ("198.51.100.1", "::ffff:198.51.100.1", "2001:db8::1"):
        assert denied_reason(address, networks(["0.0.0.0/0", "::/0"]), policy.own_addresses) == (
            "an address of the gateway itself"
        )


def test_t15_so_is_the_address_from_which_the_explorer_sees_it() -> None:
    policy = make_policy(Settings(), Identity.from_seed(bytes(32)))
    nothing = cast(Any, None)
    cycle = Cycle(
        policy, *(nothing,) * 6, Delegations((), ParentZones().name_servers), name_lookups(ProofResolver()), nothing
    )
    for address in ("8.8.4.4", "10.0.0.1", "127.0.0.1", "", "example.org"):
        cycle.reachable_at(address)
    now = cycle._policy_now()
    assert now.own_addresses == policy.own_addresses | {ipaddress.ip_address("8.8.4.4")}
