"""The configuration that role gateway writes, as the daemon reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import yaml
from ansible.plugins.filter.core import to_bool
from tfgateway.dns import configure
from tfgateway.settings import ReconcilerSettings, ServiceSettings, Settings, parse

ROLE = Path(__file__).resolve().parents[3] / "roles" / "gateway"


def rendered(**variables: Any) -> Settings:
    """The settings as the daemon reads them."""
    return parse(written("gateway.toml.j2", **variables).encode())


def written(name: str, **variables: Any) -> str:
    """A file, with the role's defaults; those that are computed from an inventory have to be given."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["to_json"] = lambda value, **options: json.dumps(value, **options)
    environment.filters["bool"] = to_bool
    template = environment.from_string((ROLE / "templates" / name).read_text())
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
    return template.render({**defaults, **computed, **variables})


def test_defaults_of_the_role_are_the_daemons_own() -> None:
    settings = rendered()
    assert settings.reconciler == ReconcilerSettings()
    assert settings.explorer == Settings().explorer
    assert settings.dns == Settings().dns


def test_long_polling_quotas_the_removal_guard_and_repair_are_variables() -> None:
    settings = rendered(
        gateway_serve_stale=77,
        gateway_long_poll=0,
        gateway_max_reservations_per_user=7,
        gateway_max_zones_per_user=3,
        gateway_max_addresses=2,
        gateway_max_removal_share=0.5,
        gateway_max_removal_count=4,
        gateway_repair_orphans=True,
    )
    assert settings.explorer.long_poll == 0
    assert settings.dns.serve_stale == 77
    given = settings.reconciler
    assert (given.max_reservations_per_user, given.max_zones_per_user, given.max_addresses) == (7, 3, 2)
    assert (given.max_removal_share, given.max_removal_count) == (0.5, 4)
    assert given.repair_orphans


def test_t21_tunnels_inside_tls_when_there_is_a_certificate() -> None:
    assert rendered().proxy.listen_tunnels_tls == ()
    settings = rendered(gateway_tunnel_certificate="/tls/chain.pem", gateway_tunnel_key="/tls/key.pem")
    assert settings.proxy.listen_tunnels_tls == ("0.0.0.0:18443", "[::]:18443")
    assert (settings.proxy.tunnel_certificate, settings.proxy.tunnel_key) == ("/tls/chain.pem", "/tls/key.pem")


def test_defaults_of_the_tunnels_are_the_daemons_own() -> None:
    assert rendered().proxy == Settings().proxy
    assert rendered(gateway_tunnel_grace=3, gateway_tunnel_share=True).proxy.tunnel_share


def test_d12_dns_variables_and_their_secrets(tmp_path: Path) -> None:
    keys = [{"name": "secondary.example", "secret": "c2VjcmV0"}]
    variables: dict[str, Any] = {
        "gateway_dns_udp_size": 1400,
        "gateway_dns_cookie_secrets": ["00" * 16, "11" * 16],
        "gateway_dns_cookies_required": True,
        "gateway_dns_rate_limit": {"mode": "log", "responses": 5, "exempt": ["192.0.2.0/24"]},
        "gateway_dns_nsid": "gw-01",
        "gateway_dns_chaos_id": "gw-01",
        "gateway_dns_chaos_version": "x",
        "gateway_dns_tsig_keys": keys,
        "gateway_dns_transfers": [{"network": "192.0.2.53/32", "key": "secondary.example"}, {"network": "::1/128"}],
        "gateway_dns_secondaries": [{"address": "192.0.2.53:53", "key": "secondary.example"}],
    }
    settings = rendered(**variables).dns
    assert (settings.udp_size, settings.nsid, settings.chaos_id, settings.chaos_version) == (
        1400,
        "gw-01",
        "gw-01",
        "x",
    )
    assert (settings.rate_limit.mode, settings.rate_limit.responses) == ("log", 5)
    assert settings.rate_limit.exempt == ("192.0.2.0/24",)
    assert settings.secrets == "/etc/tfgateway/dns-secrets.toml"
    assert "c2VjcmV0" not in written("gateway.toml.j2", **variables)
    secrets = tmp_path / "dns-secrets.toml"
    secrets.write_text(written("dns-secrets.toml.j2", **variables))
    service = configure.service(msgspec.structs.replace(settings, secrets=str(secrets)))
    assert service.cookies_required
    assert [allowed.key for allowed in service.transfers] == [b"\x09secondary\x07example\0", b""]
    (secondary,) = configure.secondaries(msgspec.structs.replace(settings, secrets=str(secrets)))
    assert (secondary.host, secondary.port) == ("192.0.2.53", 53)
    assert secondary.key is not None
    secrets.write_text(written("dns-secrets.toml.j2"))
    assert configure.service(msgspec.structs.replace(rendered().dns, secrets=str(secrets))).keys == {}


def test_t18_static_services_with_all_that_they_can_have() -> None:
    web = {
        "names": ["www.example", "CATCH_ALL"],
        "targets": [
            {"address": "192.0.2.1", "http_port": 80, "weight": 2},
            {"address": "app.internal", "tls_port": 443},
        ],
        "balance": "least_connections",
        "check": {"type": "http", "path": "/health", "interval": 1.5},
        "allow": ["192.0.2.0/24"],
        "proxy_protocol": "v2",
        "slow_start": 30,
    }
    plain = {"names": ["plain.example"], "targets": [{"address": "::1", "http_port": 80}]}
    proxy = rendered(
        gateway_proxy_services=[web, plain],
        gateway_proxy_protocol_from=["198.51.100.0/24"],
        gateway_proxy_access_log=0.5,
    ).proxy
    assert (proxy.access_log, proxy.proxy_protocol_from) == (0.5, ("198.51.100.0/24",))
    assert proxy.services == msgspec.convert([web, plain], tuple[ServiceSettings, ...])
