"""The configuration that role gateway writes, as the daemon reads it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import pytest
import yaml
from ansible.plugins.filter.core import combine, to_bool
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._settings import VARIABLES, set_twice
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._toml import to_toml
from tfgateway.dns.server import configure
from tfgateway.settings import ReconcilerSettings, ServiceSettings, Settings, parse

ROLE = Path(__file__).resolve().parents[4] / "roles" / "gateway"


def rendered(**variables: Any) -> Settings:
    """The settings as the daemon reads them."""
    return parse(written("gateway.toml.j2", **variables).encode())


def written(name: str, **variables: Any) -> str:
    """A file, with the role's defaults; those that are computed from an inventory have to be given."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["to_json"] = lambda value, **options: json.dumps(value, **options)
    environment.filters["bool"] = to_bool
    environment.filters["combine"] = combine
    environment.filters["tfgrid.gateway.to_toml"] = to_toml
    template = environment.from_string((ROLE / "templates" / name).read_text())
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    computed: dict[str, Any] = {
        "ansible_managed": "test",
        "gateway_managed_domains": ["gw1.example"],
        "gateway_name_servers": ["ns1.gw1.example"],
        "gateway_redis_url": "redis://127.0.0.1:6379/0",
        "gateway_seed_path": "/etc/identity.seed",
        "_gateway_cookie_secrets": variables.get("gateway_dns_cookie_secrets", []),
        "_gateway_group_url": "rediss:///0?ssl_certfile=/etc/tfredis/group.pem",
        "_gateway_group_sentinels": ["192.0.2.1:26379", "192.0.2.2:26379", "192.0.2.3:26379"],
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
    assert settings.redis.hold_for == Settings().redis.hold_for


def test_a_member_of_a_group_reads_its_own_redis_and_writes_the_master() -> None:
    alone = rendered().redis
    assert (alone.url, alone.replica, alone.sentinels) == ("redis://127.0.0.1:6379/0", "", ())
    member = rendered(gateway_group="paris")
    assert member.redis.url.startswith("rediss:///0?")
    assert (member.redis.replica, len(member.redis.sentinels)) == ("redis://127.0.0.1:6379/0", 3)
    assert (rendered().lease, member.lease) == (30, 5)


def test_what_the_planes_do_with_an_implausible_redis_is_a_variable() -> None:
    settings = rendered(gateway_redis_implausible="hold", gateway_redis_implausible_for=90)
    assert settings.redis.hold_for == 90
    assert rendered(gateway_redis_implausible="follow").redis.hold_for == 0


def test_long_polling_quotas_the_removal_guard_and_repair_are_variables() -> None:
    settings = rendered(
        gateway_serve_stale=77,
        gateway_long_poll=0,
        gateway_max_reservations_per_user=7,
        gateway_max_zones_per_user=3,
        gateway_max_addresses=2,
        gateway_parent_timeout=0,
        gateway_max_removal_share=0.5,
        gateway_max_removal_count=4,
        gateway_repair_orphans=True,
    )
    assert settings.explorer.long_poll == 0
    assert settings.dns.serve_stale == 77
    given = settings.reconciler
    assert (given.max_reservations_per_user, given.max_zones_per_user, given.max_addresses) == (7, 3, 2)
    assert given.parent_timeout == 0
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


def test_tunnel_secrets_of_static_services_are_variables() -> None:
    service = {"names": ["www.example"], "tunnel_secret": "s3cret"}
    assert rendered(gateway_proxy_services=[service]).proxy.services[0].tunnel_secret == "s3cret"


SAMPLES: dict[str, Any] = {
    "reconciler.lease": 2.0,
    "dns.rname": "hostmaster@gw1.example",
    "dns.updates.managed": ["TXT"],
    "gateway.public_addresses": ["192.0.2.7"],
    "gateway.reserved_names": ["status"],
    "gateway.blocked_names": ["bank.example"],
    "redis.url": "unix:///run/redis.sock",
    "dns.transfer": [{"network": "192.0.2.0/24"}],
    "dns.notify": [{"address": "192.0.2.53:53"}],
    "dns.rate_limit.exempt": ["192.0.2.0/24"],
    "proxy.services": [{"names": ["a.example"], "targets": [{"address": "192.0.2.1", "http_port": 80}]}],
    "proxy.listen_tunnels_tls": ["127.0.0.1:1"],
    "fourtosix.endpoint": "gw.example:1",
}
"""Values of keys whose content is checked beyond their type."""


def keys(section: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each key as (dotted name, type, default); arrays of tables are one key."""
    info = msgspec.inspect.type_info(section)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        name = f"{path}.{field.name}" if path else field.name
        if isinstance(field.type, msgspec.inspect.StructType):
            yield from keys(field.type.cls, name)
        else:
            yield name, field.type, field.default


def sample(name: str, kind: Any, default: Any) -> Any:
    """A usable value that is not the default."""
    if name in SAMPLES:
        return SAMPLES[name]
    if isinstance(kind, msgspec.inspect.BoolType):
        return not default
    if isinstance(kind, msgspec.inspect.LiteralType):
        return next(value for value in kind.values if value != default)
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        low = kind.ge if kind.ge is not None else kind.gt
        return next(value for value in ((low or 0) + 1, (low or 0) + 2, 1, 0) if value not in (default, kind.gt))
    if "listen" in name or name.endswith(".metrics"):
        value: Any = "127.0.0.1:1"
    else:
        value = "192.0.2.0/24" if "allow" in name or "_from" in name else "sample"
    return [value] if isinstance(kind, msgspec.inspect.VarTupleType) else value


def nested(name: str, value: Any) -> dict[str, Any]:
    """``a.b`` -> ``{"a": {"b": value}}``"""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(("name", "kind", "default"), list(keys(Settings)), ids=lambda value: str(value)[:40])
def test_every_setting_can_be_set_from_the_inventory(name: str, kind: Any, default: Any) -> None:
    value = sample(name, kind, default)
    own = VARIABLES.get(name)
    table, _, last = name.rpartition(".")
    variables: dict[str, Any] = {"gateway_settings": nested(name, value)}
    if own is not None and name != "dns.secrets":
        variables = {own: value}
    elif table in VARIABLES:
        variables = {VARIABLES[table]: {last: value}}
    elif name == "dns.secrets":
        variables, value = {"gateway_dns_cookie_secrets": ["00" * 16]}, "/etc/tfgateway/dns-secrets.toml"
    if name == "redis.replica":
        variables["gateway_settings"]["redis"]["sentinels"] = ["192.0.2.1:26379"]
    if name in ("proxy.tunnel_certificate", "proxy.tunnel_key", "proxy.listen_tunnels_tls"):
        variables = {
            "gateway_tunnel_certificate": "sample",
            "gateway_tunnel_key": "sample",
            "gateway_tunnel_tls_port": 1,
        }
        value = ["0.0.0.0:1", "[::]:1"] if name == "proxy.listen_tunnels_tls" else value
    found: Any = tomllib.loads(written("gateway.toml.j2", **variables))
    for part in name.split("."):
        found = found[part]
    assert found == value
    rendered(**variables)


def test_what_the_template_sets_is_what_has_a_variable() -> None:
    environment = tomllib.loads(
        written(
            "gateway.toml.j2",
            gateway_dns_rate_limit={"slip": 1},
            gateway_location={"city": "x"},
            gateway_dns_transfers=SAMPLES["dns.transfer"],
            gateway_dns_secondaries=SAMPLES["dns.notify"],
            gateway_proxy_services=SAMPLES["proxy.services"],
        )
    )
    written_keys = set()
    for table, values in environment.items():
        for name, value in values.items():
            below = isinstance(value, dict) and f"{table}.{name}" not in VARIABLES
            written_keys |= {f"{table}.{name}.{one}" for one in value} if below else {f"{table}.{name}"}
    assert written_keys == set(VARIABLES)


def test_a_key_that_has_a_variable_is_refused_with_both_places() -> None:
    assert set_twice({"dns": {"tcp_idle": 5}, "proxy": {"idle_timeout": 60}}) == []
    (sentence,) = set_twice({"dns": {"udp_size": 1400, "tcp_idle": 5}})
    assert "gateway_settings sets dns.udp_size, which gateway_dns_udp_size sets" in sentence
    assert set_twice({"dns": {"rate_limit": {"slip": 1}}})
    assert set_twice(["dns"]) == ["gateway_settings is not a mapping of the tables of gateway.toml"]
