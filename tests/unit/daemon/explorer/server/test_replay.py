"""A captured request, sent again or changed, at every endpoint that changes something (E-2)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from tfgateway.explorer import signing, wire
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import PoolOrder, SigningRequest, User, parse_workload
from tfgateway.explorer.server.storage import nonces
from tfgateway.explorer.server.storage.connection import DatabaseConnection
from tfgateway.identity.keys import Identity

HTTP = "by its headers"
BODY = "in its body"
OPEN = "not"
SIGNED = {
    ("POST", "/users"): OPEN,
    ("PUT", "/users/{id}"): BODY,
    ("POST", "/users/{id}/validate"): OPEN,
    ("PUT", "/users/{id}/pin"): HTTP,
    ("DELETE", "/users/{id}/pin"): HTTP,
    ("POST", "/farms"): OPEN,  # while registration is open
    ("PUT", "/farms/{id}"): HTTP,
    ("PUT", "/farms/{id}/gateways/{node_id}"): HTTP,
    ("DELETE", "/farms/{id}/gateways/{node_id}"): HTTP,
    ("POST", "/gateways"): HTTP,
    ("POST", "/gateways/{node_id}/uptime"): HTTP,
    ("POST", "/gateways/{node_id}/reserved_resources"): HTTP,
    ("PUT", "/gateways/{node_id}/pin"): HTTP,
    ("DELETE", "/gateways/{node_id}/pin"): HTTP,
    ("POST", "/reservations/pools"): BODY,
    ("POST", "/reservations/workloads"): HTTP,
    ("POST", "/reservations/workloads/{id}/sign/provision"): BODY,
    ("POST", "/reservations/workloads/{id}/sign/delete"): BODY,
    ("POST", "/workloads"): HTTP,
    ("POST", "/workloads/{id}/sign/provision"): BODY,
    ("POST", "/workloads/{id}/sign/delete"): BODY,
    ("PUT", "/reservations/nodes/{node_id}/workloads/{gwid}"): HTTP,
    ("DELETE", "/reservations/nodes/{node_id}/workloads/{gwid}"): HTTP,
}
BY_HEADERS = [endpoint for endpoint, kind in SIGNED.items() if kind is HTTP]
BY_USERS = (
    "/farms/{id}", "/farms/{id}/gateways/{node_id}", "/users/{id}/pin", "/reservations/workloads", "/workloads"
)  # fmt: skip
UNSIGNED = '{"error":"unauthorized access: no signature in the Authorization header"}\n'
AGAIN = (401, "unauthorized access: this request was sent before")
SKEW = 300
CLOCKS = 60


@dataclass
class Captured:
    """One request as it was sent. ``path``: below ``/api/v1``."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


async def _send(grid: Any, request: Captured, **changed: Any) -> Any:
    sent = Captured(**{**request.__dict__, **changed})
    return await grid.call(sent.method, sent.path, sent.body, headers=sent.headers)


def _path(grid: Any, template: str) -> str:
    path = template.replace("{node_id}", grid.node_id).replace("{gwid}", "1-1")
    return path.replace("{id}", str(grid.tid) if template.startswith("/users") else "1")


def _capture(grid: Any, method: str, template: str, *, nonce: str = "n" * 32, age: int = 0) -> Captured:
    """A request that the explorer would accept, with a bound signature."""
    by_user = template in BY_USERS
    identity, key_id = (grid.user, str(grid.tid)) if by_user else (grid.node, grid.node_id)
    wallets = [{"asset": "TFT", "address": "none"}]
    bodies: dict[str, object] = {
        "/farms/{id}": {"name": "alice", "threebot_id": grid.tid, "wallet_addresses": wallets},
        "/farms/{id}/gateways/{node_id}": {"managed_domains": ["gw1.example"]},
        "/gateways": grid.gateway_body(grid.node),
        "/gateways/{node_id}/uptime": {"uptime": 5},
        "/gateways/{node_id}/reserved_resources": {"proxy": 1},
        "/reservations/workloads": grid.workload(),
        "/workloads": grid.workload(),
    }
    if template.endswith("{gwid}"):
        body = b"" if method == "DELETE" else grid.result()
    elif template.endswith("/pin") or method == "DELETE":
        body = b""
    else:
        body = wire.encode(bodies[template])
    path = _path(grid, template)
    host = grid.explorer.server.make_url("/").host_port_subcomponent
    once = signing.Once(method, f"/api/v1{path}", host, nonce)
    created = int(grid.explorer.now) - age
    return Captured(method, path, body, signing.request_headers(identity, key_id, created, body, once))


async def test_every_endpoint_that_changes_something_is_in_the_table(grid: Any) -> None:
    """And an unsigned request is refused by those, and only those, whose headers are signed."""
    served = {
        (route.method, route.resource.canonical.removeprefix("/api/v1"))
        for route in grid.explorer.routes
        if route.method not in ("GET", "HEAD")
    }
    assert served == set(SIGNED)
    for (method, template), kind in SIGNED.items():
        answer = await grid.call(method, _path(grid, template), b"{}")
        assert (answer.text == UNSIGNED) == (kind is HTTP), template


@pytest.mark.parametrize(("method", "template"), BY_HEADERS)
async def test_e2_a_captured_request_is_good_once_and_for_itself(grid: Any, method: str, template: str) -> None:
    await grid.create()
    request = _capture(grid, method, template)
    for other_method, other_template in BY_HEADERS:
        if (other_method, other_template) != (method, template):
            answer = await _send(grid, request, method=other_method, path=_path(grid, other_template))
            assert answer.status == 401, (other_method, other_template)
            same_kind_of_key = (template in BY_USERS) == (other_template in BY_USERS)
            assert not same_kind_of_key or answer.error == "unauthorized access: signature does not match"
    assert (await _send(grid, request, path=f"{request.path}?x=1")).status == 401
    assert (await _send(grid, request, headers={**request.headers, "Host": "other.example"})).status == 401
    assert (await _send(grid, request, headers={**request.headers, "Signature-Nonce": "m" * 32})).status == 401
    answer = await _send(grid, request, body=request.body + b" ")
    assert (answer.status, answer.error) == (401, "unauthorized access: digest is not of this body (SHA-256)")
    assert (await _send(grid, request)).status in (200, 201)
    answer = await _send(grid, request)
    assert (answer.status, answer.error) == AGAIN


async def _captured_in_body(grid: Any, method: str, template: str) -> Captured:
    """As our client and approvals sign them."""
    if template == "/reservations/pools":
        body: object = grid.pool_body(grid.user, grid.tid, [grid.node_id], nonce="n" * 32)
    elif template == "/users/{id}":
        body = _update(grid, sequence=7, host="ab", description="cd")
    else:
        word = template.rpartition("/")[2]
        quorum = SigningRequest(signers=(grid.tid,), quorum_min=1)
        number = await grid.create(signing_request_provision=quorum)
        approval = signing.sign_approval(parse_workload(await grid.get(number)), word, grid.tid, grid.user)
        body = {"tid": approval.tid, "signature": approval.signature}
    return Captured(method, _path(grid, template), wire.encode(body))


def _update(grid: Any, sequence: int = 0, **members: str) -> dict[str, object]:
    """A signed update of the user."""
    changed = User(id=grid.tid, name="alice.3bot", email="a@example.com", pubkey=grid.user.public_key.hex(), **members)
    signature = grid.user.sign(signing.user_update_message(changed, sequence)).hex()
    body = {**msgspec.structs.asdict(changed), "wallet_addresses": [], "sender_signature_hex": signature}
    return {**body, "sequence": sequence} if sequence else body


@pytest.mark.parametrize(("method", "template"), [endpoint for endpoint, kind in SIGNED.items() if kind is BODY])
async def test_e2_a_captured_signature_of_a_body_is_good_once(grid: Any, method: str, template: str) -> None:
    request = await _captured_in_body(grid, method, template)
    statuses = [(await _send(grid, request)).status for _ in range(2)]
    assert statuses[0] in (200, 201)
    assert statuses[1] in (400, 401, 409)
    for other_method, other_template in SIGNED:
        if SIGNED[other_method, other_template] is BODY and other_template.split("/")[-1] != template.split("/")[-1]:
            answer = await _send(grid, request, method=other_method, path=_path(grid, other_template))
            assert answer.status in (400, 401, 404), other_template


async def test_an_older_update_of_a_user_does_not_undo_a_newer_one(grid: Any) -> None:
    path = f"/users/{grid.tid}"
    old_form = _update(grid, host="old")
    assert (await grid.call("PUT", path, old_form)).status == 200
    assert (await grid.call("PUT", path, _update(grid, 5, host="new"))).status == 200
    for older in (old_form, _update(grid, 4, host="older"), _update(grid, -6, host="older"), _update(grid, 5)):
        answer = await grid.call("PUT", path, older)
        assert answer.status == 401
        assert answer.error.endswith("sequence must be above 5: this update is older than another one")
    assert (await grid.call("GET", path)).json["host"] == "new"
    assert (await grid.call("PUT", path, _update(grid, 6, host="newest"))).status == 200


async def test_the_members_of_an_update_cannot_be_shared_out_otherwise(grid: Any) -> None:
    body = _update(grid, 1, host="ab", description="cd")
    for moved in ({"host": "abcd", "description": ""}, {"host": "", "description": "abcd"}, {"sequence": 2}):
        answer = await grid.call("PUT", f"/users/{grid.tid}", {**body, **moved})
        assert (answer.status, answer.error) == (401, "unauthorized access: signature does not match")
    assert (await grid.call("PUT", f"/users/{grid.tid}", body)).status == 200


async def test_a_pool_order_of_old_clients_may_repeat(grid: Any) -> None:
    order = grid.pool_body(grid.user, grid.tid, [grid.node_id])
    assert [(await grid.call("POST", "/reservations/pools", order)).status for _ in range(2)] == [201, 201]


async def test_our_client_orders_once(grid: Any) -> None:
    account = (grid.user, str(grid.tid))
    async with ExplorerClient(grid.explorer.url, identity=account[0], key_id=account[1]) as client:
        for _ in range(2):  # two orders, each with a nonce of its own
            await client.create_pool(PoolOrder(node_ids=(grid.node_id,), currencies=("TFT",)), grid.tid)
    assert grid.explorer.count("pool_order") == 2


async def test_a_nonce_of_an_order_that_is_none(grid: Any) -> None:
    order = grid.pool_body(grid.user, grid.tid, [grid.node_id], nonce="short")
    answer = await grid.call("POST", "/reservations/pools", order)
    assert (answer.status, answer.error[:17]) == (400, "nonce is not one ")


async def test_e2_it_stays_refused_after_a_restart_and_until_the_signature_is_too_old(grid: Any) -> None:
    # Made by a clock that is ahead: it is valid for almost twice the clock skew.
    request = _capture(grid, "POST", "/gateways/{node_id}/uptime", age=-SKEW)
    assert (await _send(grid, request)).status == 200
    await grid.explorer.restart()
    grid.explorer.now += 2 * SKEW
    answer = await _send(grid, request)
    assert (answer.status, answer.error) == AGAIN
    grid.explorer.now += 1
    assert "check yours" in (await _send(grid, request)).error


async def test_e2_a_repeated_registration_of_a_new_gateway(grid: Any, stranger: Identity) -> None:
    grid.node, grid.node_id = stranger, stranger.node_id
    request = _capture(grid, "POST", "/gateways")
    assert (await _send(grid, request)).status == 201
    answer = await _send(grid, request)
    assert (answer.status, answer.error) == AGAIN


@pytest.mark.parametrize("nonce", ["", "short", "x" * 65, "ü" * 32, "a" * 30 + " b"])
async def test_a_nonce_that_is_none(grid: Any, nonce: str) -> None:
    request = _capture(grid, "POST", "/gateways/{node_id}/uptime", nonce=nonce)
    answer = await _send(grid, request)
    assert answer.status == 401
    assert "signature-nonce is not one value of" in answer.error


async def test_a_replay_does_not_show_e_mail_addresses(grid: Any) -> None:
    host = grid.explorer.server.make_url("/").host_port_subcomponent
    path = f"/users/{grid.tid}"
    once = signing.Once("GET", f"/api/v1{path}", host, "n" * 32)
    headers = signing.request_headers(grid.user, str(grid.tid), int(grid.explorer.now), b"", once)
    request = Captured("GET", path, b"", headers)
    assert [bool((await _send(grid, request)).json["email"]) for _ in range(2)] == [True, False]


async def test_bound_signatures_can_be_required(grid: Any) -> None:
    await grid.explorer.restart(require_bound_signatures=True)
    answer = await grid.call("POST", f"/gateways/{grid.node_id}/uptime", {"uptime": 1}, by=(grid.node, grid.node_id))
    assert answer.status == 401
    assert answer.error.endswith("the signature must cover (request-target) host digest signature-nonce")
    assert (await _send(grid, _capture(grid, "POST", "/gateways/{node_id}/uptime"))).status == 200
    order = grid.pool_body(grid.user, grid.tid, [grid.node_id])
    assert (await grid.call("POST", "/reservations/pools", order)).status == 400
    assert (await grid.call("PUT", f"/users/{grid.tid}", _update(grid))).status == 401


async def test_nonces_are_dropped_when_their_signatures_are_too_old(grid: Any) -> None:
    for number in range(3):
        request = _capture(grid, "POST", "/gateways/{node_id}/uptime", nonce=f"{number:032}")
        assert (await _send(grid, request)).status == 200
        assert grid.explorer.count("nonce") == 1
        grid.explorer.now += SKEW + CLOCKS + 1


async def test_a_full_key_accepts_new_signatures_and_no_old_ones(grid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonces, "MOST", 20)
    monkeypatch.setattr(nonces, "_MADE_FREE", 5)
    requests = []
    for number in range(50):
        requests.append(_capture(grid, "POST", "/gateways/{node_id}/uptime", nonce=f"{number:032}"))
        assert (await _send(grid, requests[-1])).status == 200
        grid.explorer.now += 1
    assert grid.explorer.count("nonce") <= 20
    for request in requests:
        answer = await _send(grid, request)
        assert (answer.status, answer.error) == AGAIN
    never_seen = _capture(grid, "POST", "/gateways/{node_id}/uptime", age=45)
    assert (await _send(grid, never_seen)).status == 401


async def test_keys_that_nobody_registered_cannot_fill_the_database(grid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonces, "MOST", 20)
    monkeypatch.setattr(nonces, "_MADE_FREE", 5)
    kept = _capture(grid, "POST", "/gateways/{node_id}/uptime")
    assert (await _send(grid, kept)).status == 200
    for number in range(50):
        node = Identity.from_seed(number.to_bytes(32, "big"))
        grid.node, grid.node_id = node, node.node_id
        assert (await _send(grid, _capture(grid, "POST", "/gateways/{node_id}/uptime"))).status == 404
    assert grid.explorer.count("nonce") <= 21
    # Those of registered gateways are apart from them.
    assert (await _send(grid, kept)).status == 401


def _counted(connection: DatabaseConnection) -> dict[str, int]:
    """By key; ``*``: of all."""
    numbers = dict(connection.execute("SELECT key_id, number FROM nonce_count WHERE number > 0"))
    of_all = [key for key in numbers if key.startswith("*")]
    return {"*": sum(numbers.pop(key) for key in of_all)} | numbers


def _use(connection: DatabaseConnection, key_id: str, number: int, created: int = 0) -> None:
    nonces.use(connection, key_id, f"{number:032}", created, oldest=0)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # where it can be counted
async def test_a_nonce_costs_the_same_however_many_there_are(grid: Any) -> None:
    """Counted in instructions of SQLite's virtual machine: each row that is looked at takes some."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def work(connection: sqlite3.Connection) -> list[int]:
        nonlocal steps
        found = []
        connection.set_progress_handler(step, 1)
        try:
            for number in range(4000):
                steps = 0
                _use(connection, "1", number, created=number)
                found.append(steps)
            for number in range(20):  # and to drop those of before
                steps = 0
                nonces.use(connection, "1", f"x{number:031}", 9999, oldest=3900)
                found.append(steps)
        finally:
            connection.set_progress_handler(None, 1)
        return found

    found = await grid.explorer.database.write(work)
    assert max(found[10:4000]) < 1.1 * min(found[10:4000])
    assert max(found[4000:]) < 100 * min(found[10:4000])
    assert grid.explorer.count("nonce") == 4020 - 20 * 100


async def test_nonces_are_counted_as_they_come_and_go(grid: Any) -> None:
    def work(connection: DatabaseConnection) -> dict[str, int]:
        for number in range(5):
            _use(connection, "1", number, created=number)
        _use(connection, "2", 0, created=2)
        nonces.use(connection, "2", "y" * 32, 9, oldest=3)  # the first three of the one, and the only one of the other
        return _counted(connection)

    assert await grid.explorer.database.write(work) == {"1": 2, "2": 1, "*": 3}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # what older releases left is a file
async def test_nonces_are_counted_at_each_start(grid: Any) -> None:
    await grid.explorer.database.write(lambda connection: _use(connection, "1", 1))
    # An older release does not count.
    await grid.explorer.database.write(lambda connection: connection.execute("UPDATE nonce_count SET number = 7"))
    await grid.explorer.restart()
    assert await grid.explorer.database.read(_counted) == {"1": 1, "*": 1}


async def test_all_keys_together_have_so_many_nonces_and_whoever_has_most_makes_room(
    grid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonces, "MOST_OF_ALL", 100)

    def work(connection: DatabaseConnection) -> None:
        for number in range(10):
            _use(connection, "1", number, created=number)
        for number in range(500):
            _use(connection, str(2 + number % 3), number, created=number)
            assert _counted(connection)["*"] <= 100
        assert _counted(connection)["1"] == 10
        for number in range(10):
            with pytest.raises(nonces.Repeated):
                _use(connection, "1", number, created=number)
        for number in range(500):
            with pytest.raises(nonces.Repeated):
                _use(connection, str(2 + number % 3), number, created=number)

    await grid.explorer.database.write(work)


async def test_a_gateway_whose_entry_ended_repeats_nothing(grid: Any) -> None:
    request = _capture(grid, "POST", "/gateways")
    assert (await _send(grid, request)).status == 201
    await grid.explorer.database.write(lambda connection: connection.execute("DELETE FROM gateway"))
    answer = await _send(grid, request)
    assert (answer.status, answer.error) == AGAIN
