"""Users, farms, gateways and pools of the self-hosted explorer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tfgateway.explorer import signing
from tfgateway.explorer.models import User
from tfgateway.explorer.server.api import gateways
from tfgateway.identity.keys import Identity
from yarl import URL

MISSING = "mongo: no documents in result"


async def test_answers_have_the_form_that_go_clients_know(grid: Any) -> None:
    answer = await grid.call("GET", "/users/9")
    assert (answer.status, answer.text) == (404, '{"error":"mongo: no documents in result"}\n')
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    answer = await grid.register_gateway(grid.node)
    assert (answer.status, answer.text) == (201, "null\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nonsense", 404), ("GET", "/users/abc", 404), ("GET", "/users/٣", 404), ("PUT", "/users", 405)],
)
async def test_unknown_routes_and_methods_answer_in_plain_text(
    explorer: Any, method: str, path: str, status: int
) -> None:
    answer = await explorer.call(method, path)
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("text/plain")


async def test_browsers_may_ask(explorer: Any) -> None:
    answer = await explorer.call("OPTIONS", "/users")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert answer.headers["Access-Control-Expose-Headers"] == "Pages"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/users?name=%ff", 200),
        ("/users?name=%ed%a0%80", 200),
        ("/users?name=a%00b&email=%", 200),
        ("/gateways/%ff", 404),
        ("/gateways/%00", 404),
        ("/gateways?country=%ed%a0%80&city=%ff", 200),
        ("/farms?owner=%ff", 400),
        ("/reservations/nodes/%ff/workloads?from=0", 200),
        ("/reservations/nodes/%ed%a0%80/workloads?from=%ff", 404),
    ],
)
async def test_addresses_that_are_no_text(explorer: Any, path: str, status: int) -> None:
    url = URL(explorer.url + path, encoded=True)
    async with explorer.session.get(url) as answer:
        assert answer.status == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 60_000, b'"x"', b"1"])
async def test_bodies_that_are_no_object(explorer: Any, body: bytes) -> None:
    for path in ("/users", "/farms", "/reservations/pools"):
        answer = await explorer.call("POST", path, body)
        assert answer.status == 400
        assert answer.error


async def test_e12_a_body_that_is_too_large(start_explorer: Any) -> None:
    explorer = await start_explorer(max_body=1000)
    answer = await explorer.call("POST", "/users", b" " * 2000)
    assert (answer.status, answer.error) == (413, "the body is too large")


async def test_e12_a_body_that_never_comes(start_explorer: Any) -> None:
    explorer = await start_explorer(body_timeout=0.01)

    async def endless() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async with explorer.session.post(f"{explorer.url}/users", data=endless()) as answer:
        assert answer.status == 408


# Users


def _proven(identity: Identity, **members: str) -> dict[str, str]:
    """A new user with the proof of his key."""
    wanted = User(**{"name": "alice.3bot", "email": "a@example.com", "pubkey": identity.public_key.hex(), **members})
    proof = identity.sign(signing.key_proof_message(wanted)).hex()
    return {"name": wanted.name, "email": wanted.email, "pubkey": wanted.pubkey, "key_proof": proof}


async def test_e4_possession_of_the_key_is_proven(start_explorer: Any, user: Identity, stranger: Identity) -> None:
    explorer = await start_explorer(require_key_proof=True)
    body = _proven(user)
    stolen = _proven(stranger, pubkey=user.public_key.hex())
    for refused in ({**body, "key_proof": ""}, {**body, "name": "other"}, {**body, "key_proof": "zz"}, stolen):
        answer = await explorer.call("POST", "/users", refused)
        assert answer.status == 400
        assert "key_proof" in answer.error
    assert (await explorer.call("POST", "/users", body)).status == 201


async def test_e4_old_clients_prove_nothing_but_a_false_proof_is_refused(explorer: Any, user: Identity) -> None:
    body = _proven(user)
    assert (await explorer.call("POST", "/users", {**body, "name": "other"})).status == 400
    del body["key_proof"]
    assert (await explorer.call("POST", "/users", body)).status == 201


async def test_what_a_user_has_signed_is_told_from_what_he_has_not(grid: Any, stranger: Identity) -> None:
    path = f"/users/{grid.tid}/validate"
    for signer, payload, valid in [(grid.user, b"x", True), (grid.user, b"y", False), (stranger, b"x", False)]:
        body = {"payload": b"x".hex(), "signature": signer.sign(payload).hex()}
        answer = await grid.call("POST", path, body)
        assert (answer.status, answer.json) == (200, {"is_valid": valid})
    for body in ({"payload": "00"}, {"payload": "", "signature": "00"}, {}):
        assert (await grid.call("POST", path, body)).json == {"is_valid": False}
    assert (await grid.call("POST", path, {"payload": "x", "signature": "00"})).status == 400
    assert (await grid.call("POST", "/users/0/validate", {})).status == 404


async def test_a_user_is_created(explorer: Any, user: Identity) -> None:
    body = {"name": "Alice.3Bot", "email": "Alice@Example.com", "pubkey": user.public_key.hex().upper(), "id": 99}
    answer = await explorer.call("POST", "/users", body)
    assert answer.status == 201
    assert {name: answer.json[name] for name in ("id", "name", "email", "pubkey")} == {
        "id": 1,
        "name": "alice.3bot",
        "email": "alice@example.com",
        "pubkey": user.public_key.hex(),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "ab"},
        {"name": 5},
        {"email": "nonsense"},
        {"pubkey": "00"},
        {"pubkey": "zz" * 32},
        {"pubkey": "00 " * 32},
    ],
)
async def test_users_that_are_refused(explorer: Any, changes: dict[str, object]) -> None:
    body = {"name": "alice.3bot", "email": "alice@example.com", "pubkey": "00" * 32, **changes}
    assert (await explorer.call("POST", "/users", body)).status == 400


@pytest.mark.parametrize(("name", "email"), [("alice.3bot", "other@example.com"), ("other", "alice.3bot@example.com")])
async def test_names_and_emails_are_unique(grid: Any, name: str, email: str) -> None:
    answer = await grid.call("POST", "/users", {"name": name, "email": email, "pubkey": "00" * 32})
    assert (answer.status, answer.error) == (409, "user with same name or email exists")


async def test_an_empty_email_is_one_too(grid: Any) -> None:
    assert (await grid.call("POST", "/users", {"name": "one", "pubkey": "00" * 32})).status == 201
    assert (await grid.call("POST", "/users", {"name": "two", "pubkey": "00" * 32})).status == 409


async def test_e9_emails_are_shown_to_users_only(grid: Any, stranger: Identity) -> None:
    assert (await grid.call("GET", "/users/1")).json["email"] == ""
    assert (await grid.call("GET", "/users/1", by=(grid.user, 1))).json["email"] == "alice.3bot@example.com"
    assert (await grid.call("GET", "/users/1", by=(stranger, 1))).json["email"] == ""
    assert [user["email"] for user in (await grid.call("GET", "/users")).json] == [""]


async def test_e5_id_0_is_nobody(grid: Any) -> None:
    assert (await grid.call("GET", "/users/0")).status == 404
    answer = await grid.call("POST", "/reservations/workloads", grid.workload(), by=(grid.user, 0))
    assert answer.status == 401
    assert (await grid.call("GET", "/reservations/pools/owner/0")).json == []


async def test_ids_that_fit_nowhere(grid: Any) -> None:
    for path in ("/users/", "/farms/", "/reservations/workloads/", "/reservations/pools/"):
        answer = await grid.call("GET", path + "9" * 30)
        assert (answer.status, answer.error) == (404, MISSING)
    assert (await grid.call("GET", f"/reservations/nodes/workloads/{'9' * 30}-1")).status == 404


async def test_users_are_found_by_name(grid: Any, stranger: Identity) -> None:
    await grid.register("bob.3bot", stranger)
    assert [user["id"] for user in (await grid.call("GET", "/users?name=BOB.3bot")).json] == [2]
    assert (await grid.call("GET", "/users?name=carol")).json == []


async def test_lists_are_paged(grid: Any, stranger: Identity) -> None:
    for number in range(2, 6):
        await grid.register(f"user{number}", stranger)
    for query, ids, pages in [
        ("page=1&size=2", [1, 2], "3"),
        ("page=3&size=2", [5], "3"),
        ("page=4&size=2", [], "3"),
        ("page=99999999999999", [], "1"),
        ("", [1, 2, 3, 4, 5], "1"),
    ]:
        answer = await grid.call("GET", f"/users?{query}")
        assert ([user["id"] for user in answer.json], answer.headers["Pages"]) == (ids, pages)
    for query in ("page=x", "size=-1", "size=1.5"):
        assert (await grid.call("GET", f"/users?{query}")).status == 400


async def test_e11_size_0_is_the_default_and_large_sizes_are_capped(start_explorer: Any, stranger: Identity) -> None:
    explorer = await start_explorer(page=2, max_page=3)
    for number in range(5):
        body = {"name": f"user{number}", "email": f"{number}@example.com", "pubkey": stranger.public_key.hex()}
        assert (await explorer.call("POST", "/users", body)).status == 201
    assert len((await explorer.call("GET", "/users?size=0")).json) == 2
    assert len((await explorer.call("GET", "/users?size=1000")).json) == 3


async def test_a_user_changes_what_may_be_changed(grid: Any) -> None:
    changed = User(id=1, name="mallory", email="New@example.com", host="h", description="d", pubkey="00")
    signature = grid.user.sign(signing.user_update_message(changed)).hex()
    body = {"name": "mallory", "email": "New@example.com", "host": "h", "description": "d", "pubkey": "00"}
    answer = await grid.call("PUT", "/users/1", {**body, "sender_signature_hex": signature})
    assert (answer.status, answer.text) == (200, "null\n")
    stored = (await grid.call("GET", "/users/1", by=(grid.user, 1))).json
    assert (stored["name"], stored["email"], stored["host"]) == ("alice.3bot", "new@example.com", "h")
    assert (await grid.call("PUT", "/users/1", {**body, "host": "x", "sender_signature_hex": signature})).status == 401
    assert (await grid.call("PUT", "/users/7", {**body, "sender_signature_hex": signature})).status == 404


# Farms


async def test_farms(grid: Any) -> None:
    assert await grid.farm("second_farm-2", 5) == 2
    assert (await grid.call("GET", "/farms/2")).json["name"] == "second_farm-2"
    assert [farm["id"] for farm in (await grid.call("GET", "/farms?owner=5")).json] == [2]
    assert [farm["id"] for farm in (await grid.call("GET", "/farms?name=alice")).json] == [1]
    assert (await grid.call("GET", "/farms/3")).error == MISSING
    assert (await grid.call("GET", "/farms?owner=x")).status == 400


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"name": "alice"}, 409),
        ({"name": "with space"}, 400),
        ({"name": ""}, 400),
        ({"threebot_id": 0}, 400),
        ({"wallet_addresses": []}, 400),
    ],
)
async def test_farms_that_are_refused(grid: Any, changes: dict[str, object], status: int) -> None:
    body = {"name": "new", "threebot_id": 1, "wallet_addresses": [{"asset": "TFT", "address": "x"}], **changes}
    assert (await grid.call("POST", "/farms", body)).status == status


async def test_a_farm_is_changed_by_its_owner_only(grid: Any, stranger: Identity) -> None:
    other = await grid.register("bob.3bot", stranger)
    await grid.farm("bobs", other)
    body = {"name": "renamed", "threebot_id": grid.tid, "wallet_addresses": [{"asset": "TFT", "address": "y"}], "id": 9}
    alice, bob = (grid.user, grid.tid), (stranger, other)
    for by, path, changes, status in [
        (None, "/farms/1", {}, 401),
        (bob, "/farms/1", {}, 403),
        (alice, "/farms/9", {}, 404),
        (alice, "/farms/1", {"name": "bobs"}, 409),
        (alice, "/farms/1", {"name": ""}, 400),
        (alice, "/farms/1", {"threebot_id": other}, 400),
        (alice, "/farms/1", {}, 200),
    ]:
        assert (await grid.call("PUT", path, {**body, **changes}, by=by)).status == status
    changed = (await grid.call("GET", "/farms/1")).json
    assert {name: changed[name] for name in body} == {**body, "id": 1}
    assert [farm["id"] for farm in (await grid.call("GET", "/farms?name=renamed")).json] == [1]


# Gateways


async def test_a_gateway_registers(grid: Any) -> None:
    stored = (await grid.call("GET", f"/gateways/{grid.node_id}")).json
    assert (stored["id"], stored["farm_id"], stored["created"]) == (1, 1, 1611000000)
    assert (stored["managed_domains"], stored["dns_nameserver"]) == (["gw1.example"], [])
    for query in ("", "?country=Belgium", "?city=Ghent&farm_id=1", "?name=ignored"):
        assert [entry["id"] for entry in (await grid.call("GET", f"/gateways{query}")).json] == [1]
    assert (await grid.call("GET", "/gateways?farm_id=2")).json == []
    assert (await grid.call("GET", "/gateways/unknown")).error == MISSING


async def test_registering_again_keeps_id_and_creation_and_drops_counters(grid: Any) -> None:
    path = f"/gateways/{grid.node_id}"
    by = (grid.node, grid.node_id)
    assert (await grid.call("POST", f"{path}/uptime", {"uptime": 600}, by=by)).text == "null\n"
    counters = {"cru": 0, "mru": 0.0, "proxy": 3, "subdomain": 2}
    assert (await grid.call("POST", f"{path}/reserved_resources", counters, by=by)).status == 200
    stored = (await grid.call("GET", path)).json
    assert (stored["uptime"], stored["workloads"]["proxy"], stored["workloads"]["subdomain"]) == (600, 3, 2)

    grid.explorer.now += 100
    assert (await grid.register_gateway(grid.node, managed_domains=["gw2.example"])).status == 201
    stored = (await grid.call("GET", path)).json
    assert (stored["id"], stored["created"], stored["updated"]) == (1, 1611000000, 1611000100)
    assert (stored["uptime"], stored["workloads"]["proxy"], stored["managed_domains"]) == (0, 0, ["gw2.example"])


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"farm_id": 0}, 400, "farm_id is required"),
        ({"farm_id": 9}, 404, "unknown farm id: 9"),
        ({"os_version": ""}, 400, "os_version is required"),
        ({"public_key_hex": ""}, 400, "public key must be 32 bytes in hex"),
        ({"public_key_hex": "00" * 32}, 400, "node_id is not the base58 form of public_key_hex"),
        ({"managed_domains": ["no dots"]}, 400, "managed domain 'no dots' name is invalid"),
        ({"managed_domains": ["a.example"] * 101}, 400, "managed_domains has more than 100 items"),
        ({"location": {}}, 400, "location is required"),
        ({"node_id": ""}, 403, "the request is not signed by this gateway"),
    ],
)
async def test_gateways_that_are_refused(grid: Any, changes: dict[str, object], status: int, text: str) -> None:
    answer = await grid.register_gateway(grid.node, **changes)
    assert (answer.status, answer.error) == (status, text)


async def test_t15_a_gateway_is_listed_with_the_address_that_it_is_seen_from(
    grid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def address() -> str:
        return (await grid.call("GET", f"/gateways/{grid.node.node_id}")).json["address"]

    assert (await grid.register_gateway(grid.node)).status == 201
    assert await address() == "", "a loopback address says nothing"
    monkeypatch.setattr(gateways, "denied_reason", lambda *_: None)
    assert (await grid.register_gateway(grid.node)).status == 201
    assert await address() == "127.0.0.1"
    assert (await grid.register_gateway(grid.node, address="8.8.4.4")).status == 201
    assert await address() == "8.8.4.4"


async def test_only_the_gateway_itself_registers_and_reports(grid: Any, stranger: Identity) -> None:
    by = (stranger, stranger.node_id)
    answer = await grid.call("POST", "/gateways", grid.gateway_body(grid.node), by=by)
    assert answer.status == 403
    for path in ("uptime", "reserved_resources"):
        assert (await grid.call("POST", f"/gateways/{grid.node_id}/{path}", {}, by=by)).status == 403
        assert (await grid.call("POST", f"/gateways/{grid.node_id}/{path}", {})).status == 401
        answer = await grid.call("POST", f"/gateways/{stranger.node_id}/{path}", {}, by=by)
        assert (answer.status, answer.error) == (404, f"gateway '{stranger.node_id}' not found")


async def test_old_gateways_send_null_lists_and_no_new_members(grid: Any) -> None:
    answer = await grid.register_gateway(grid.node, managed_domains=None, workloads={"proxy": 0}, created=0)
    assert answer.status == 201


# Pools


async def test_a_pool(grid: Any) -> None:
    answer = await grid.call("POST", "/reservations/pools", grid.pool_body(grid.user, 1, [grid.node_id], cus=5))
    assert answer.json == {"reservation_id": 2, "escrow_information": {"address": "", "asset": "", "amount": 0}}
    stored = (await grid.call("GET", "/reservations/pools/2")).json
    assert (stored["pool_id"], stored["customer_tid"], stored["node_ids"], stored["cus"]) == (2, 1, [grid.node_id], 5)
    assert [pool["pool_id"] for pool in (await grid.call("GET", "/reservations/pools/owner/1")).json] == [1, 2]
    assert (await grid.call("GET", "/reservations/pools/3")).error == MISSING


async def test_pools_that_are_refused(grid: Any, stranger: Identity) -> None:
    good = grid.pool_body(grid.user, 1, [grid.node_id])
    order = json.loads(good["json"])
    for status, body in [
        (409, grid.pool_body(grid.user, 1, [grid.node_id, grid.node_id])),
        (404, grid.pool_body(grid.user, 1, [stranger.node_id])),
        (404, grid.pool_body(grid.user, 9, [grid.node_id])),
        (400, grid.pool_body(grid.user, 1, [])),
        (400, grid.pool_body(grid.user, 1, [grid.node_id], cus=-1)),
        (400, grid.pool_body(grid.user, 1, [grid.node_id], pool_id=1)),
        (400, grid.pool_body(stranger, 1, [grid.node_id])),
        (400, {**good, "data_reservation": {**order, "cus": 1}}),
        (400, {**good, "json": "[]"}),
        (400, {**good, "customer_signature": "xyz"}),
    ]:
        answer = await grid.call("POST", "/reservations/pools", body)
        assert answer.status == status, answer.text
    assert [pool["pool_id"] for pool in (await grid.call("GET", "/reservations/pools/owner/1")).json] == [1]


async def test_pool_nodes_must_be_of_one_farm(grid: Any, stranger: Identity) -> None:
    assert await grid.farm("second", 1) == 2
    assert (await grid.register_gateway(stranger, farm_id=2)).status == 201
    body = grid.pool_body(grid.user, 1, [grid.node_id, stranger.node_id])
    answer = await grid.call("POST", "/reservations/pools", body)
    assert (answer.status, answer.error) == (400, "node_ids must belong to one farm")
