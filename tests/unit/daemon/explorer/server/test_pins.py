"""A pinned key: requests of its owner that could be sent again, or as others, are refused (E-2)."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tfgateway.errors import ExplorerRefused, StoreError
from tfgateway.explorer import signing
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import PoolOrder, User
from tfgateway.explorer.server.storage import pins
from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.identity.keys import Identity

REFUSED = "the signature must cover (request-target) host digest signature-nonce: the key is pinned"


def client(grid: Any, identity: Identity, key_id: object) -> ExplorerClient:
    return ExplorerClient(grid.explorer.url, identity=identity, key_id=str(key_id), clock=lambda: grid.explorer.now)


async def old_heartbeat(grid: Any) -> Any:
    """As the original programs sign it."""
    body = {"uptime": 1}
    return await grid.call("POST", f"/gateways/{grid.node_id}/uptime", body, by=(grid.node, grid.node_id))


async def test_a_pinned_gateway_needs_bound_signatures_until_it_takes_the_pin_back(grid: Any) -> None:
    assert (await old_heartbeat(grid)).status == 200
    async with client(grid, grid.node, grid.node_id) as ours:
        for _ in range(2):  # again is harmless
            await ours.pin_gateway(grid.node_id, pin=True)
        answer = await old_heartbeat(grid)
        assert (answer.status, answer.error) == (401, f"unauthorized access: {REFUSED}")
        await ours.send_uptime(grid.node_id, 5)
        await grid.explorer.restart()
        assert (await old_heartbeat(grid)).status == 401
        for _ in range(2):
            await ours.pin_gateway(grid.node_id, pin=False)
    assert (await old_heartbeat(grid)).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_only_the_owner_changes_a_pin_and_only_by_a_bound_signature(
    grid: Any, stranger: Identity, method: str
) -> None:
    for path, owner in ((f"/gateways/{grid.node_id}/pin", (grid.node, grid.node_id)),
                        (f"/users/{grid.tid}/pin", (grid.user, grid.tid))):  # fmt: skip
        answer = await grid.call(method, path, by=owner)
        assert (answer.status, answer.error.partition(": ")[2]) == (401, REFUSED.partition(": ")[0])
        assert (await grid.call(method, path, by=(stranger, stranger.node_id))).status in (401, 403)
    other = await grid.register("bob.3bot", stranger)
    async with client(grid, stranger, other) as theirs:
        with pytest.raises(ExplorerRefused, match="not signed by this user"):
            await theirs.pin_user(grid.tid, pin=method == "PUT")
    async with client(grid, stranger, stranger.node_id) as theirs:
        with pytest.raises(ExplorerRefused, match="not signed by this node"):
            await theirs.pin_gateway(grid.node_id, pin=method == "PUT")
        with pytest.raises(ExplorerRefused, match="not found"):  # nobody fills the table with keys of no gateway
            await theirs.pin_gateway(stranger.node_id, pin=method == "PUT")
    assert grid.explorer.count("pin") == 0


async def test_what_a_pinned_user_signs_in_bodies_is_good_once_too(grid: Any) -> None:
    async with client(grid, grid.user, grid.tid) as ours:
        await ours.pin_user(grid.tid, pin=True)
        answer = await grid.call("POST", "/reservations/pools", grid.pool_body(grid.user, grid.tid, [grid.node_id]))
        assert (answer.status, answer.error) == (400, "an order needs a nonce, so that it is taken once")
        await ours.create_pool(PoolOrder(node_ids=(grid.node_id,), currencies=("TFT",)), grid.tid)
        answer = await grid.call("GET", f"/users/{grid.tid}", by=(grid.user, grid.tid))
        assert answer.json["email"] == ""  # an old signature is as good as none
        # Another user's old requests are none of its business.
    assert (await old_heartbeat(grid)).status == 200


def _unpin(engine: DatabaseEngine, key_id: str) -> bool:
    return engine.apply(lambda connection: pins.change(connection, key_id, pin=False, now=0))


async def test_the_explorer_s_operator_takes_a_pin_back(grid: Any) -> None:
    async with client(grid, grid.node, grid.node_id) as ours:
        await ours.pin_gateway(grid.node_id, pin=True)
    assert [_unpin(grid.explorer.engine, grid.node_id) for _ in range(2)] == [True, False]
    assert (await old_heartbeat(grid)).status == 200


def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent\.db"):
        _unpin(SqliteEngine(tmp_path / "absent.db"), "1")
    assert not (tmp_path / "absent.db").exists()
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(StoreError, match="no such table"):
        _unpin(SqliteEngine(tmp_path / "other.db"), "1")


# Offers

DAY = 86_400


async def told(grid: Any) -> str:
    """What the explorer says of the pin in its answer to a bound heartbeat."""
    async with client(grid, grid.node, grid.node_id) as ours:
        await ours.send_uptime(grid.node_id, 5)
        return ours.pin


async def test_a_pin_is_offered_once_no_other_signature_was_used_for_thirty_days(grid: Any) -> None:
    # The grid has registered its gateway as the original programs do, which is before it was known.
    assert await told(grid) == "offered"
    assert (await old_heartbeat(grid)).status == 200
    for later, says in [(0, ""), (29 * DAY, ""), (DAY - 1, ""), (1, "offered")]:
        grid.explorer.now += later
        assert await told(grid) == says, later
    assert (await old_heartbeat(grid)).status == 200
    assert await told(grid) == ""
    await grid.explorer.restart()
    grid.explorer.now += 30 * DAY
    assert await told(grid) == "offered"
    async with client(grid, grid.node, grid.node_id) as ours:
        await ours.take_pin(grid.node_id)
    assert await told(grid) == "set"
    assert (await old_heartbeat(grid)).status == 401


async def test_who_takes_a_pin_back_is_offered_none_for_thirty_days(grid: Any, tmp_path: Path) -> None:
    async with client(grid, grid.node, grid.node_id) as ours:
        for pinned in (True, False):  # also who was not pinned yet
            if pinned:
                await ours.take_pin(grid.node_id)
            await ours.pin_gateway(grid.node_id, pin=False)
            assert await told(grid) == ""
            with pytest.raises(
                ExplorerRefused, match="no pin is offered"
            ) as refused:  # the offer was answered too late
                await ours.take_pin(grid.node_id)
            assert refused.value.status == 409
            grid.explorer.now += 30 * DAY
            assert await told(grid) == "offered"
        await ours.pin_gateway(grid.node_id, pin=False)
        await ours.pin_gateway(grid.node_id, pin=True)  # its owner's word needs no offer
    assert await told(grid) == "set"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # what older releases left is a file
async def test_an_older_database_says_nothing_of_what_was_used_before(grid: Any) -> None:
    await grid.explorer.database.write(lambda connection: connection.execute("DELETE FROM setting"))
    assert await told(grid) == ""
    await grid.explorer.restart()
    grid.explorer.now += 30 * DAY - 1
    assert await told(grid) == ""
    grid.explorer.now += 1
    assert await told(grid) == "offered"


async def test_what_old_clients_sign_in_bodies_counts_as_used(grid: Any) -> None:
    async def said() -> str:
        async with client(grid, grid.user, grid.tid) as ours:
            await ours._call("GET", f"/users/{grid.tid}", sign=True)
            return ours.pin

    changed = User(id=grid.tid, name="alice.3bot", email="a@example.com", pubkey=grid.user.public_key.hex())
    update = {
        **msgspec.structs.asdict(changed),
        "wallet_addresses": [],
        "sender_signature_hex": grid.user.sign(signing.user_update_message(changed)).hex(),
    }
    order = grid.pool_body(grid.user, grid.tid, [grid.node_id])
    for method, path, body in (
        ("PUT", f"/users/{grid.tid}", update),
        ("POST", "/reservations/pools", order),
    ):
        grid.explorer.now += 30 * DAY
        assert await said() == "offered"
        assert (await grid.call(method, path, body)).status in (200, 201)
        assert await said() == ""
    grid.explorer.now += 30 * DAY
    assert (await grid.call("GET", f"/users/{grid.tid}", by=(grid.user, grid.tid))).json["email"]
    assert await said() == ""


async def test_keys_that_nobody_registered_leave_nothing_and_are_told_nothing(grid: Any, stranger: Identity) -> None:
    used = grid.explorer.count("unbound")
    grid.node, grid.node_id = stranger, stranger.node_id
    assert (await old_heartbeat(grid)).status == 404
    async with client(grid, stranger, stranger.node_id) as ours:
        with pytest.raises(ExplorerRefused, match="not found"):
            await ours.send_uptime(stranger.node_id, 5)
        assert ours.pin == ""
    assert grid.explorer.count("unbound") == used


async def test_only_bound_requests_of_the_key_itself_are_told(grid: Any, stranger: Identity) -> None:
    assert signing.PIN not in (await old_heartbeat(grid)).headers
    grid.explorer.now += 30 * DAY
    assert signing.PIN not in (await grid.call("GET", f"/gateways/{grid.node_id}")).headers
    async with client(grid, stranger, grid.node_id) as theirs:
        with pytest.raises(ExplorerRefused, match="signature does not match"):
            await theirs.send_uptime(grid.node_id, 5)
        assert theirs.pin == ""
    # A nonce alone does not make a signature good for one request.
    headers = {"Threebot-Id": grid.node_id, "Date": "x", "Signature-Nonce": "n" * 32}
    covered = {
        "(created)": int(grid.explorer.now),
        "date": "x",
        "threebot-id": grid.node_id,
        "signature-nonce": "n" * 32,
    }
    text = "\n".join(f"{item}: {value}" for item, value in covered.items())
    headers["Authorization"] = (
        f'Signature keyId="{grid.node_id}",algorithm="ed25519",created="{int(grid.explorer.now)}",'
        f'headers="{" ".join(covered)}",signature="{base64.b64encode(grid.node.sign(text.encode())).decode()}"'
    )
    answer = await grid.call("POST", f"/gateways/{grid.node_id}/uptime", {"uptime": 1}, headers=headers)
    assert (answer.status, signing.PIN in answer.headers) == (200, False)
    grid.explorer.now += 30 * DAY
    # Nor does what a stranger makes up count as used.
    body = {"uptime": 1}
    assert (
        await grid.call("POST", f"/gateways/{grid.node_id}/uptime", body, by=(stranger, grid.node_id))
    ).status == 401
    assert await told(grid) == "offered"


async def test_the_use_of_other_signatures_is_written_once_an_hour(grid: Any) -> None:
    def used() -> int:
        return int(grid.explorer.value("SELECT used FROM unbound WHERE key_id = ?", grid.node_id))

    found = []
    for _ in range(7):
        assert (await old_heartbeat(grid)).status == 200
        found.append(used())
        grid.explorer.now += 600
    assert found == [found[0]] * 6 + [found[0] + 3600]
