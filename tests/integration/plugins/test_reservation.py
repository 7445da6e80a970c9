"""Module ``reservation`` with a real explorer and a real gateway that deploys."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tfgateway.redis_schema.services import decode_service

KEY = base64.b64encode(b"k" * 32).decode()

EVERY_TYPE: list[dict[str, Any]] = [
    {"type": "domain_delegate", "domain": "alice.example"},
    {"type": "subdomain", "domain": "www.gw1.example", "ips": ["203.0.113.5", "2001:DB8:0::5"]},
    {"type": "proxy", "domain": "shop.gw1.example", "addr": "203.0.113.9", "port": 8080},
    {"type": "reverse_proxy", "domain": "home.gw1.example"},
    {"type": "gateway4to6", "public_key": KEY},
]


def test_every_type_is_made_found_again_and_removed(world: Any) -> None:
    world.start()
    assert world.as_user(type="subdomain", domain="home.gw1.example", ips=["203.0.113.1"])["changed"]
    for options in EVERY_TYPE:
        if options["type"] == "reverse_proxy":
            options = options | {"secret_file": str(world.directory / "tunnel.secret")}
        made = world.as_user(**options)
        assert made["changed"], made
        assert made["reservation"]["status"] == "deployed"
        again = world.as_user(**options)
        assert not again["changed"], again
        assert again["reservation"] == made["reservation"]
        gone = world.as_user(state="absent", type=options["type"], domain=options.get("domain"))
        assert gone["deleted"] == [made["reservation"]["id"]]
    assert [line["domain"] for line in world.reserve("list")] == ["home.gw1.example"]


def test_a_domain_is_removed_with_what_is_in_it_waiting(world: Any) -> None:
    world.start()
    domain = {"type": "domain_delegate", "domain": "alice.example"}
    name = {"type": "subdomain", "domain": "www.alice.example", "ips": ["203.0.113.5"]}
    first = world.as_user(**domain)["reservation"]
    made = world.as_user(**name)["reservation"]
    assert world.as_user(**domain, state="absent")["deleted"] == [first["id"]]
    assert world.as_user(**domain)["reservation"]["status"] == "deployed"
    again = world.as_user(**name)
    assert (again["changed"], again["reservation"]) == (False, made)


def test_check_mode_foresees_and_changes_nothing(world: Any) -> None:
    world.start()
    name = {"type": "subdomain", "domain": "www.gw1.example"}
    foreseen = world.as_user(**name, ips=["203.0.113.5"], check=True, diff=True)
    assert foreseen["changed"]
    assert foreseen["diff"]["before"] == []
    assert foreseen["diff"]["after"] == [{**name, "ips": ["203.0.113.5"]}]
    assert world.reserve("list") == []
    assert not world.as_user(**name, state="absent")["changed"]
    world.as_user(**name, ips=["203.0.113.5"])
    assert world.as_user(**name, state="absent", check=True)["changed"]
    (left,) = world.reserve("list")
    assert left["status"] == "deployed"


def test_the_secret_of_a_tunnel_leaves_encrypted_for_the_gateway(world: Any) -> None:
    world.start()
    secret = world.directory / "tunnel.secret"
    world.as_user(type="subdomain", domain="home.gw1.example", ips=["203.0.113.1"])
    made = world.as_user(type="reverse_proxy", domain="home.gw1.example", secret_file=str(secret))
    text = secret.read_text().strip()
    assert text not in json.dumps(made)
    database = world.explorer.database.read_bytes()
    assert text.encode() not in database
    with world.redis.client() as client:  # where the gateway has to have it, it is readable
        assert decode_service(client.get("/tcprouter/service/home.gw1.example")).clientsecret == text


def test_one_that_differs_is_made_again(world: Any) -> None:
    world.start()
    first = world.as_user(type="subdomain", domain="www.gw1.example", ips=["203.0.113.5"])["reservation"]
    changed = world.as_user(type="subdomain", domain="www.gw1.example", ips=["203.0.113.6"], diff=True)
    assert changed["deleted"] == [first["id"]]
    assert changed["diff"]["before"][0]["ips"] == ["203.0.113.5"]
    assert changed["diff"]["after"][0]["ips"] == ["203.0.113.6"]
    assert changed["reservation"]["data"]["ips"] == ["203.0.113.6"]
    (left,) = world.reserve("list")
    assert left["id"] == changed["reservation"]["id"]


def test_what_the_gateway_refuses_fails_with_its_words(world: Any) -> None:
    world.start()
    refused = world.as_user(type="subdomain", domain="_www.gw1.example", ips=["203.0.113.5"])
    assert refused["failed"]
    assert "names beginning with '_' are reserved" in refused["msg"]


def test_ipv6_comes_with_its_configuration_but_without_the_private_key(world: Any) -> None:
    world.start()
    key = world.directory / "wireguard.key"
    made = world.as_user(type="gateway4to6", key_file=str(key))
    assert "Endpoint = 192.0.2.1:3443" in made["wireguard"]
    assert key.read_text().strip() not in json.dumps(made)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "subdomain", "domain": "www.gw1.example"}, "missing for a subdomain: ips"),
        ({"type": "proxy", "domain": "x.gw1.example", "addr": "203.0.113.1", "ips": ["203.0.113.1"]}, "ips: not for"),
        ({"type": "gateway4to6"}, "name public_key or key_file"),
        ({"type": "subdomain", "state": "absent"}, "domain is missing"),
    ],
)
def test_wrong_options_are_said_before_anything_is_asked(world: Any, options: dict[str, Any], words: str) -> None:
    world.explorer.stop()
    assert words in world.as_user(**options)["msg"]
