"""What the settings allow."""

from __future__ import annotations

from tfgateway.identity.keys import Identity
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
