"""The configuration that role gateway writes, as the daemon reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import yaml
from tfgateway.settings import ReconcilerSettings, Settings, parse

ROLE = Path(__file__).resolve().parents[3] / "roles" / "gateway"


def rendered(**variables: Any) -> Settings:
    """With the role's defaults; those that are computed from an inventory have to be given."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["to_json"] = lambda value, **options: json.dumps(value, **options)
    template = environment.from_string((ROLE / "templates" / "gateway.toml.j2").read_text())
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    computed: dict[str, Any] = {
        "ansible_managed": "test",
        "gateway_managed_domains": ["gw1.example"],
        "gateway_name_servers": ["ns1.gw1.example"],
        "gateway_redis_url": "redis://127.0.0.1:6379/0",
        "gateway_seed_path": "/etc/identity.seed",
    }
    for name, value in defaults.items():
        if isinstance(value, str) and "{{" in value and name not in computed:
            computed[name] = environment.from_string(value).render()
    return parse(template.render({**defaults, **computed, **variables}).encode())


def test_defaults_of_the_role_are_the_daemons_own() -> None:
    settings = rendered()
    assert settings.reconciler == ReconcilerSettings()
    assert settings.explorer == Settings().explorer
    assert settings.dns == Settings().dns


def test_long_polling_quotas_and_repair_are_variables() -> None:
    settings = rendered(
        gateway_long_poll=0,
        gateway_max_reservations_per_user=7,
        gateway_max_zones_per_user=3,
        gateway_max_addresses=2,
        gateway_repair_orphans=True,
    )
    assert settings.explorer.long_poll == 0
    given = settings.reconciler
    assert (given.max_reservations_per_user, given.max_zones_per_user, given.max_addresses) == (7, 3, 2)
    assert given.repair_orphans


def test_t21_tunnels_inside_tls_when_there_is_a_certificate() -> None:
    assert rendered().proxy.listen_tunnels_tls == ()
    settings = rendered(gateway_tunnel_certificate="/tls/chain.pem", gateway_tunnel_key="/tls/key.pem")
    assert settings.proxy.listen_tunnels_tls == ("0.0.0.0:18443", "[::]:18443")
    assert (settings.proxy.tunnel_certificate, settings.proxy.tunnel_key) == ("/tls/chain.pem", "/tls/key.pem")


def test_defaults_of_the_tunnels_are_the_daemons_own() -> None:
    assert rendered().proxy == Settings().proxy
    assert rendered(gateway_tunnel_grace=3, gateway_tunnel_share=True).proxy.tunnel_share
