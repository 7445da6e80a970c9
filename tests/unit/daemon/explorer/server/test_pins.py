"""A pinned key: requests of its owner that could be sent again, or as others, are refused (E-2)."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tfgateway.errors import ExplorerRefused, StoreError
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import PoolOrder
from tfgateway.explorer.server.storage import pins
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


async def test_the_explorer_s_operator_takes_a_pin_back(grid: Any, tmp_path: Path) -> None:
    async with client(grid, grid.node, grid.node_id) as ours:
        await ours.pin_gateway(grid.node_id, pin=True)
    database = tmp_path / "explorer.db"
    assert pins.remove(database, grid.node_id)
    assert not pins.remove(database, grid.node_id)
    assert (await old_heartbeat(grid)).status == 200


def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent\.db"):
        pins.remove(tmp_path / "absent.db", "1")
    assert not (tmp_path / "absent.db").exists()
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(StoreError, match="no such table"):
        pins.remove(tmp_path / "other.db", "1")
