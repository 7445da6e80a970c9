"""What users would notice of a cutover."""

from __future__ import annotations

from typing import Any

import pytest
from tfgateway import settings
from tfgateway.legacy import flags
from tfgateway.legacy.compare import Item, compare
from tfgateway.legacy.corefile import Corefile
from tfgateway.legacy.router import Router

FLAGS = flags.Flags(
    seed="/etc/identity.seed",
    farm=1,
    nameservers=("tf-gateway-prod-01.gateway.tf",),
    domains=("tfgw-prod-01.gateway.tf", "tfgw-prod-01.3x0.me"),
    endpoint="198.51.100.7:3443",
)
COREFILE = Corefile(address="127.0.0.1:6379")
ROUTER = Router(443, 80, 18000, "127.0.0.1:6379", 0)
OURS = """
[explorer]
url = "https://explorer.grid.tf"
[redis]
url = "redis://localhost/0"
[gateway]
farm_id = 1
name_servers = ["tf-gateway-prod-01.gateway.tf"]
managed_domains = ["tfgw-prod-01.3x0.me", "tfgw-prod-01.gateway.tf"]
[fourtosix]
endpoint = "198.51.100.7:3443"
"""


def differences(toml: str, **found: Any) -> dict[str, Item]:
    whole: dict[str, Any] = {"flags": FLAGS, "corefile": COREFILE, "router": ROUTER, "router_path": "/r.toml"} | found
    items = compare(settings.parse(toml.encode()), **whole)
    return {item.key: item for item in items if not item.same}


def test_the_same_in_other_words_is_no_difference() -> None:
    assert differences(OURS) == {}


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("gateway.farm_id = 1", "farm_id = 1", "farm_id = 2"),
        ("gateway.managed_domains", "tfgw-prod-01.3x0.me", "tfgw-prod-02.3x0.me"),
        ("gateway.name_servers", '["tf-gateway-prod-01', '["tf-gateway-prod-02'),
        ("explorer.url", "explorer.grid.tf", "explorer.example"),
        ("redis.url", "localhost/0", "localhost:6380/0"),
        ("fourtosix.endpoint", "198.51.100.7", "198.51.100.8"),
    ],
)
def test_each_difference_is_named(key: str, old: str, new: str) -> None:
    assert list(differences(OURS.replace(old, new))) == [key.partition(" ")[0]]


def test_files_are_compared_too() -> None:
    found = differences(
        OURS, corefile=Corefile("127.0.0.1:6379", 60, "p", "s", 1053), router=Router(444, 81, 1, "127.0.0.1:6379", 2)
    )
    assert set(found) == {
        "dns.ttl",
        "dns.key_prefix",
        "dns.key_suffix",
        "dns.listen",
        "proxy.listen_tls",
        "proxy.listen_http",
        "proxy.router_toml",
        "gateway.tcp_client_port",
    }
    assert (found["proxy.router_toml"].old, found["proxy.router_toml"].new) == ("/r.toml", "")


def test_what_several_were_told_is_said_once_and_once_more_for_another_value() -> None:
    whole: dict[str, Any] = {"flags": FLAGS, "router": ROUTER, "router_path": "/r.toml"}
    ours = settings.parse(OURS.encode())
    alike = [item.key for item in compare(ours, corefile=COREFILE, **whole)]
    assert len(alike) == len(set(alike))
    assert {"redis.url", "gateway.tcp_client_port"} <= set(alike)
    other = compare(ours, corefile=Corefile(address="127.0.0.1:6380"), **whole)
    assert [(item.old, item.same) for item in other if item.key == "redis.url"] == [
        ("127.0.0.1:6379", True),
        ("127.0.0.1:6380", False),
    ]


def test_what_was_not_found_is_not_compared() -> None:
    assert compare(settings.Settings(), flags=None, corefile=None, router=None, router_path="") == ()


def test_a_password_in_a_url_is_never_shown() -> None:
    items = compare(
        settings.parse(b'[redis]\nurl = "redis://:s3cr3t@127.0.0.1:1/0"'),
        flags=flags.Flags(redis="tcp://0ldpw@127.0.0.1:2"),
        corefile=None,
        router=None,
        router_path="",
    )
    assert "s3cr3t" not in repr(items)
    assert "0ldpw" not in repr(items)
