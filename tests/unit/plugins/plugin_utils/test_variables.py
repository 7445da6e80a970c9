"""Every variable of the roles is tried with values that are wrong for it, and with its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tfgrid.gateway.plugins.plugin_utils import _variables

ROLES = Path(__file__).resolve().parents[4] / "roles"
SPECIFIED = _variables.specifications(ROLES)

# By kind: what is refused, what is taken.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "account": (["", "Root", "a b", "0day", "a:b"], ["tfgateway", "_tf"]),
    "address": (["localhost", "10.0.0.0/8", "1.2.3", "1.2.3.256"], ["192.0.2.1", "2001:db8::1"]),
    "cookie": (["", "00" * 15, "zz" * 16], ["0f" * 16]),
    "count": ([-1, "-0.5"], [0, "10"]),
    "endpoint": (["", "a.example", "a.example:0", ":3443", "2001:db8::1:1", "1.2.3.256:1"], ["a.example:1", "[::1]:1"]),
    "glibc": (["", "2.17", "glibc"], ["2_17"]),
    "host": (["", "1.2.3", "a b", "http://a.example", "a..b"], ["192.0.2.1", "web.example", "2001:db8::1"]),
    "interface": (["", "wg-tfgateway-long-name", "a b", "a/b", ".."], ["wg-tfgateway", "eth0.100"]),
    "listener": (["", "127.0.0.1", "127.0.0.1:70000", "::1:80", "a.example:53"], ["127.0.0.1:1", "[::]:443", ":443"]),
    "maxmemory": (["", "lots", "-1", "5 mb"], ["512mb", "1GB", "0"]),
    "memory": (["", "0", "800MB", "lots", "-1G"], ["800M", "1.5G", "infinity", "50%"]),
    "network": (["", "10.0.0.1", "10.0.0.1/8", "10.0.0.0/33", "a.example/24"], ["10.0.0.0/8", "fd00::/8"]),
    "path": (["", "etc/seed", "~/seed", "/a b", '/a"b'], ["/etc/identity.seed"]),
    "payload": ([0, 511, 65536], [1232]),
    "port": ([0, -1, 65536, 70000, True], [1, "53", 65535]),
    "positive": ([0, -1], [0.5, 30]),
    "protocol": (["", "sctp"], ["tcp", "udp"]),
    "redis": (["", "127.0.0.1:6379", "http://127.0.0.1", "redis://127.0.0.1:99999"], ["redis://127.0.0.1/0", "unix:///r"]),
    "sha256": (["", "ab", "A" * 64], ["a" * 64]),
    "share": ([-0.1, 1.1, 30], [0, 0.3, "1"]),
    "source": (["", "ftp://a.example/key", "/srv/key"], ["https://a.example/key", "file:///srv/key"]),
    "url": (["", "a.example", "https://", "https://a b", "https://a.example:99999"], ["https://a.example", "http://[::1]:8"]),
    "word": (["", "a b", "../x"], ["wireguard-go", "docker"]),
}  # fmt: skip
# What is not of a kind: text for people and programs, and paths of the controller.
FREE = {
    "docker_repository", "explorer_database", "explorer_tls_certificate", "explorer_tls_key", "gateway_dns_chaos_id",
    "gateway_dns_chaos_version", "gateway_dns_nsid", "gateway_dns_tsig_keys", "gateway_farm_program",
    "gateway_farm_seed", "gateway_fourtosix_private_key", "gateway_group", "gateway_location", "gateway_settings",
    "identity_threebot_id", "interpreter_archives", "interpreter_cache", "mongodb_repository", "mongodb_version",
    "monitoring_output", "preflight_tolerated_units", "prerequisites_packages", "release_cache", "release_prebuilt",
    "release_source", "repository_source", "safeguard_change", "safeguard_save", "safeguard_undo", "tfredis_cache",
    "tfredis_group", "tfredis_prebuilt",
}  # fmt: skip


def problems(name: str, value: Any) -> dict[str, str]:
    return _variables.problems({name: value}, SPECIFIED)


def in_its_place(name: str, path: str, value: Any) -> Any:
    """A value of ``name`` that is right but for ``value``, which is at ``path`` in it."""
    for part in reversed(path.split(".") if path else []):
        value = {part: value}
    if name == "firewall_ports":
        value = {"port": 1, "proto": "tcp"} | value
    if name == "gateway_proxy_services":
        target = {"address": "192.0.2.1"} | value.get("targets", {})
        value = {"names": ["a.example"]} | value | {"targets": [target]}
    return [value] if SPECIFIED[name]["type"] == "list" else value


EVERY = [(name, "", kind) for name, kind in _variables.KINDS.items()] + [
    (name, path, kind) for name, members in _variables.MEMBERS.items() for path, kind in members.items()
]
every_variable = pytest.mark.parametrize(
    ("name", "path", "kind"), EVERY, ids=[f"{name}.{path}" for name, path, _ in EVERY]
)


@every_variable
def test_what_is_wrong_for_its_kind_is_refused(name: str, path: str, kind: str) -> None:
    wrong = [value for value in VALUES[kind.rstrip("?")][0] if value != "" or not kind.endswith("?")]
    for value in wrong:
        said = problems(name, in_its_place(name, path, value))
        assert said.keys() == {name}, f"{value!r} passes"
        assert "\n" not in said[name]


@every_variable
def test_what_is_right_for_its_kind_is_taken(name: str, path: str, kind: str) -> None:
    for value in VALUES[kind.rstrip("?")][1]:
        fits_type = SPECIFIED[name]["type"] != "int" or float(value).is_integer()
        if fits_type:
            assert problems(name, in_its_place(name, path, value)) == {}
    if kind.endswith("?"):
        assert problems(name, "") == {}


def test_every_variable_has_a_kind_or_takes_any_text() -> None:
    judged = _variables.KINDS.keys() | _variables.MEMBERS.keys() | FREE
    plain = {name for name, option in SPECIFIED.items() if option["type"] == "bool" or "choices" in option}
    assert SPECIFIED.keys() - plain - judged == set()
    assert judged - SPECIFIED.keys() == set()


def test_defaults_are_right() -> None:
    defaults: dict[str, Any] = {}
    for path in ROLES.glob("*/defaults/main.yml"):
        defaults |= {name: value for name, value in yaml.safe_load(path.read_text()).items() if "{{" not in str(value)}
    given = {name: value for name, value in defaults.items() if name in SPECIFIED}
    assert _variables.problems(given, SPECIFIED) == {}
    assert len(given) > 80


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("wireguard_port", 70000, "70000 is not a port, 1 to 65535"),
        ("wireguard_port", "many", "'many' is not of type int"),
        ("gateway_location", "Ghent", "'Ghent' is not of type dict"),
        ("wireguard_private_key", "mine", "value of wireguard_private_key must be one of: seed, derived, got: mine"),
        ("sshd_ports", [22, 0], "0 is not a port, 1 to 65535"),
        ("identity_threebot_id", "alice", "'alice' is not of type int"),
    ],
)
def test_it_says_what_is_wrong(name: str, value: Any, said: str) -> None:
    assert problems(name, value) == {name: said}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gateway_dns_cookie_secrets", ["topsecret"]),
        ("gateway_dns_tsig_keys", [{"name": "a", "secret": "topsecret", "algorithm": "hmac-topsecret"}]),
        ("gateway_proxy_services", {"names": ["a.example"], "tunnel_secret": "topsecret"}),
        ("gateway_redis_url", "redis://:topsecret@127.0.0.1:99999/0"),
        ("docker_key_url", "ftp://me:topsecret@a.example/key"),
    ],
)
def test_a_secret_is_not_repeated(name: str, value: Any) -> None:
    assert "topsecret" not in str(problems(name, value)[name])


ODD: list[Any] = [
    None,
    True,
    -1,
    1e400,
    float("nan"),
    10**400,
    "",
    "\0",
    "x" * 100_000,
    [],
    [[]],
    {},
    {"a": {}},
    [None],
    [{"port": {}}],
    b"x",
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12])
def test_whatever_the_value_there_is_a_short_answer(value: Any) -> None:
    """An inventory may hold anything in any place."""
    for name in SPECIFIED:
        said = problems(name, value)
        assert said.keys() <= {name}
        assert all("\n" not in text and len(text) < 1000 for text in said.values()), name
