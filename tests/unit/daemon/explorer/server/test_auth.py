"""Who is let in (E-2)."""

from __future__ import annotations

from typing import Any

import pytest
from tfgateway.explorer import signing, wire
from tfgateway.identity.keys import Identity

CHALLENGE = 'Signature headers="(created) date threebot-id"'


async def _uptime(grid: Any, headers: dict[str, str]) -> Any:
    return await grid.call("POST", f"/gateways/{grid.node_id}/uptime", {"uptime": 1}, headers=headers)


async def test_an_unsigned_request(grid: Any) -> None:
    answer = await _uptime(grid, {})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == CHALLENGE
    assert answer.error == "unauthorized access: no signature in the Authorization header"


@pytest.mark.parametrize(("seconds", "status"), [(299, 200), (-299, 200), (302, 401), (-302, 401)])
async def test_e2_a_signature_is_good_for_five_minutes(grid: Any, seconds: int, status: int) -> None:
    headers = signing.request_headers(grid.node, grid.node_id, int(grid.explorer.now) - seconds)
    answer = await _uptime(grid, headers)
    assert answer.status == status
    if status == 401:
        assert "check yours" in answer.error


async def test_e2_a_missing_created_is_long_ago(grid: Any) -> None:
    headers = signing.request_headers(grid.node, grid.node_id, int(grid.explorer.now))
    headers["Authorization"] = headers["Authorization"].replace("created=", "made=")
    assert (await _uptime(grid, headers)).status == 401


async def test_e2_the_key_id_is_the_threebot_id(grid: Any, stranger: Identity) -> None:
    headers = signing.request_headers(stranger, grid.node_id, int(grid.explorer.now))
    headers["Authorization"] = headers["Authorization"].replace(grid.node_id, stranger.node_id)
    answer = await _uptime(grid, headers)
    assert (answer.status, answer.error) == (401, "unauthorized access: threebot-id is not the key id")


async def test_e2_the_same_signature_twice_is_fine(grid: Any) -> None:
    headers = signing.request_headers(grid.node, grid.node_id, int(grid.explorer.now))
    assert [(await _uptime(grid, headers)).status for _ in range(2)] == [200, 200]


async def test_a_key_that_is_not_the_node_ids(grid: Any, stranger: Identity) -> None:
    headers = signing.request_headers(stranger, grid.node_id, int(grid.explorer.now))
    assert (await _uptime(grid, headers)).error == "unauthorized access: signature does not match"


@pytest.mark.parametrize("key_id", ["7", "not base58 0OIl", "", "1" * 45])
async def test_key_ids_that_are_no_node(grid: Any, key_id: str) -> None:
    headers = signing.request_headers(grid.node, key_id, int(grid.explorer.now))
    assert (await _uptime(grid, headers)).status == 401


@pytest.mark.parametrize("key_id", ["2", "x", "-1", "1.0", "9" * 30, "٣"])
async def test_key_ids_that_are_no_user(grid: Any, key_id: str) -> None:
    answer = await grid.call("POST", "/reservations/workloads", grid.workload(), by=(grid.user, key_id))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == CHALLENGE


async def test_go_clients_send_bytes_that_are_no_ascii(grid: Any) -> None:
    headers = signing.request_headers(grid.node, grid.node_id, int(grid.explorer.now))
    expires = int(grid.explorer.now) + 60
    headers["Authorization"] = headers["Authorization"].replace(f'"{expires}"', "\"'\ufffd'\"")
    assert "\ufffd" in headers["Authorization"]
    assert (await _uptime(grid, headers)).status == 200


async def test_e7_a_signed_digest_binds_the_body(grid: Any) -> None:
    """A workload's own signature does not tell how C was split, nor does it cover who may delete it."""
    workload = wire.encode(grid.workload())
    headers = signing.request_headers(grid.user, str(grid.tid), int(grid.explorer.now), workload)
    assert "digest" in headers["Authorization"]
    split = workload.replace(b'"metadata":""', b'"metadata":"www."').replace(b'"domain":"www.', b'"domain":"')
    undeletable = workload.replace(b'"quorum_min":1', b'"quorum_min":0')
    for forged in (split, undeletable):
        assert forged != workload
        answer = await grid.call("POST", "/reservations/workloads", forged, headers=headers)
        assert (answer.status, answer.error) == (401, "unauthorized access: digest is not of this body (SHA-256)")
    assert (await grid.call("POST", "/reservations/workloads", workload, headers=headers)).status == 201


async def test_e7_a_digest_that_is_sent_but_not_signed_says_nothing(grid: Any) -> None:
    headers = signing.request_headers(grid.user, str(grid.tid), int(grid.explorer.now))
    answer = await grid.call(
        "POST", "/reservations/workloads", grid.workload(), headers={**headers, "Digest": "SHA-256=AAAA"}
    )
    assert answer.status == 201
