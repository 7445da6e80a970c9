"""Modules ``gateway_info``, ``reconcile`` and ``reservation_state`` where a reconciler runs, and where none does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.waiting import until

Until = Callable[[Callable[[], Any], str], Any]
NAME = "www.gw1.example"


def deployed(world: Any) -> None:
    assert world.as_user(type="subdomain", domain=NAME, ips=["203.0.113.5"])["reservation"]["status"] == "deployed"


def test_info_says_who_it_is_and_which_planes_answer(world: Any) -> None:
    world.start()
    found = world.on_node("gateway_info")
    assert found["node_id"] == world.node
    assert found["managed_domains"] == ["gw1.example"]
    planes = {plane["name"]: plane for plane in found["planes"]}
    assert {name: plane["answers"] for name, plane in planes.items()} == {
        "reconciler": True,
        "dns": False,
        "proxy": False,
        "fourtosix": False,
    }
    assert planes["reconciler"]["metrics"]["tfgateway_reconciler_last_poll_seconds"] > 0
    assert not found["changed"]


def test_a_running_reconciler_repairs_and_the_module_waits_for_it(world: Any) -> None:
    world.start()
    deployed(world)
    assert not world.on_node("reconcile")["changed"]
    with world.redis.client() as client:
        client.delete("gw1.example.")
    world.on_node("reconcile")
    with world.redis.client() as client:
        assert client.hexists("gw1.example.", "www")


def test_without_a_reconciler_a_pass_is_made(world: Any) -> None:
    process = world.start()
    deployed(world)
    process.stop()
    with world.redis.client() as client:
        client.delete("gw1.example.")
    foreseen = world.on_node("reconcile", check=True, diff=True)
    assert foreseen["changed"]
    assert NAME in foreseen["diff"]["prepared"]
    with world.redis.client() as client:
        assert not client.exists("gw1.example."), "check mode repaired"
    assert world.on_node("reservation_state")["msg"].startswith(f"1 reservation: 1 missing. 1-1 subdomain {NAME}")
    repaired = world.on_node("reconcile")
    assert repaired["changed"], repaired
    with world.redis.client() as client:
        assert client.hexists("gw1.example.", "www")
    assert not world.on_node("reconcile")["changed"]


def test_removals_that_are_held_back_need_consent(world: Any) -> None:
    world.most_removals = 1
    world.config.write_text(world.settings())
    process = world.start()
    for domain in ("one.example", "two.example"):
        assert world.as_user(type="domain_delegate", domain=domain)["changed"]
    process.stop()
    world.reserve("delete", "1", "2")
    refused = world.on_node("reconcile")
    assert refused["failed"]
    assert "removals are held back" in refused["msg"]
    assert len(refused["held_steps"]) == 2
    allowed = world.on_node("reconcile", allow_removals=True)
    assert allowed["changed"], allowed
    with world.redis.client() as client:
        assert client.hlen("tfgateway_reservations") == 0


def test_an_explorer_that_is_away_is_said_in_words(world: Any) -> None:
    world.explorer.stop()
    found = world.on_node("reconcile")
    assert found["failed"]
    assert "the gateway is not in step" in found["msg"]
    assert "Traceback" not in found["msg"]


def test_an_answer_that_changed_is_delivered_although_a_users_key_had_to_be_asked_for(world: Any) -> None:
    """What is carried out before the reconciler knows every user's key is told to the explorer too."""
    process = world.start()
    assert world.as_user(type="subdomain", domain="home.gw1.example", ips=["203.0.113.5"])["changed"]
    tunnel = {"type": "reverse_proxy", "domain": "home.gw1.example"}
    assert world.as_user(**tunnel, secret_file=str(world.directory / "secret"))["changed"]
    address = {"type": "gateway4to6", "key_file": str(world.directory / "wireguard.key")}
    assert world.as_user(**address)["changed"]
    process.stop()
    world.endpoint = "198.51.100.1:3443"
    world.explorer.stop()
    process = world.tfgateway("reconcile", config=world.settings())
    process.wait_log("poll failed")  # it has looked into its outbox, and found nothing
    world.explorer.start()

    def told() -> bool:
        return "Endpoint = 198.51.100.1:3443" in world.as_user(**address)["wireguard"]

    until(told, "the new endpoint at the explorer")
    with world.redis.client() as client:
        assert client.hlen("tfgateway:outbox") == 0
