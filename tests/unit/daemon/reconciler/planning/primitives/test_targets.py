"""What `tfgateway state` says of the operator's static services."""

from __future__ import annotations

from tfgateway import settings
from tfgateway.diagnosis.static_services import TunnelState, static_tunnels
from tfgateway.redis_schema.tunnels import Connected, fingerprint

CONFIG = b"""
[[proxy.services]]
names = ["own.example", "www.own.example"]
tunnel_secret = "operators-own"
[[proxy.services]]
names = ["away.example"]
tunnel_secret = "another"
[[proxy.services]]
names = ["plain.example"]
targets = [{ address = "192.0.2.1", http_port = 80 }]
"""


def test_tunnels_of_static_services_and_their_clients() -> None:
    clients = {
        fingerprint("operators-own"): Connected(1767225600, "203.0.113.7"),
        fingerprint("x"): Connected(1, "::1"),
    }
    assert static_tunnels(settings.parse(CONFIG), clients) == (
        TunnelState("own.example", 1767225600, "203.0.113.7"),
        TunnelState("away.example", None, ""),
    )
