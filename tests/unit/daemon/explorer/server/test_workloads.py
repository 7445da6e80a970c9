"""Workloads as users create and sign them."""

from __future__ import annotations

from typing import Any

import pytest
from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import (
    DomainDelegate,
    Gateway4To6,
    Proxy,
    ResultState,
    ReverseProxy,
    SigningRequest,
    Subdomain,
    UnknownWorkload,
)
from tfgateway.identity.keys import Identity


async def test_a_workload_is_created(grid: Any) -> None:
    grid.explorer.now += 3
    answer = await grid.post(grid.workload(epoch=1611000000))
    assert (answer.status, answer.text) == (201, '{"reservation_id":1}\n')
    stored = await grid.get(1)
    assert stored["id"] == 1
    assert stored["next_action"] == 3
    assert stored["version"] == 2
    assert stored["epoch"] == 1611000003
    assert stored["domain"] == "www.gw1.example"
    assert stored["result"]["data_json"] is None


async def test_what_the_explorer_decides_cannot_be_posted(grid: Any) -> None:
    posted = {
        "id": 77,
        "next_action": 6,
        "version": 9,
        "signatures_delete": [{"tid": 1, "signature": "00"}],
        "signatures_provision": [{"tid": 1, "signature": "00"}],
        "result": {"state": 1, "workload_id": "77-1"},
    }
    body = wire.encode(grid.workload())[:-1] + b"," + wire.encode(posted)[1:]
    assert (await grid.post(body)).status == 201
    stored = await grid.get(1)
    assert (stored["id"], stored["next_action"], stored["version"]) == (1, 3, 2)
    assert (stored["signatures_delete"], stored["signatures_provision"]) == ([], [])
    assert (stored["result"]["state"], stored["result"]["workload_id"]) == (0, "")


@pytest.mark.parametrize(
    ("members", "status", "text"),
    [
        ({"customer_tid": 0}, 400, "customer_tid is required"),
        ({"customer_signature": ""}, 400, "customer_signature is required"),
        ({"metadata": "ä" * 513}, 400, "metadata is longer than 1024 bytes"),
        ({"pool_id": 0}, 400, "pool is required"),
        ({"reference": "3-1"}, 400, "reference is illegal for new workloads"),
        ({"customer_tid": 2}, 401, "request user identity does not match the reservation customer-tid"),
        ({"customer_signature": "zz"}, 400, "failed to verify customer signature: signature is not hex"),
        ({"customer_signature": "00" * 64}, 400, "failed to verify customer signature: signature does not match"),
        ({"pool_id": 9}, 404, "pool does not exist"),
        ({"node_id": "other"}, 403, "not allowed to deploy workload on this pool"),
    ],
)
async def test_workloads_that_are_refused(grid: Any, members: dict[str, Any], status: int, text: str) -> None:
    answer = await grid.post(grid.workload(**members))
    assert (answer.status, answer.error) == (status, text)
    assert (await grid.call("GET", "/reservations/workloads")).json == []


async def test_e10_a_negative_workload_id(grid: Any) -> None:
    answer = await grid.post(grid.workload(workload_id=-1))
    assert (answer.status, answer.error) == (400, "workload_id must not be negative")


@pytest.mark.parametrize(
    "body", [b'{"workload_type":99}', b'{"workload_type":-1}', b'{"ips":5,"workload_type":7}', b"[]", b"{"]
)
async def test_workloads_that_are_none(grid: Any, body: bytes) -> None:
    assert (await grid.post(body)).status == 400


async def test_an_unknown_type_has_the_words_that_clients_know(grid: Any) -> None:
    assert (await grid.post(b'{"workload_type":99}')).error == "unrecognized workload type"


async def test_a_foreign_pool(grid: Any, stranger: Identity) -> None:
    tid = await grid.register("mallory", stranger)
    workload = signing.sign_workload(grid.workload(customer_tid=tid), stranger)
    answer = await grid.call("POST", "/reservations/workloads", workload, by=(stranger, tid))
    assert (answer.status, answer.error) == (403, "not allowed to deploy workload on this pool")


ADDRESSES = "incorrect format for domain www.gw1.example:"
TARGET = "cannot add proxy from www.gw1.example:"
KEY = "cannot add 4to6 peer: public_key is not a WireGuard key:"
MANAGED = "unauthorized error cannot delegate domain a.gw1.example: managed domain gw1.example is above it"
SECRET = "failed to decrypt secret:"
BAD = [
    (Subdomain, {"domain": "under score.example"}, "domain 'under score.example' name is invalid"),
    (Subdomain, {"domain": "nodots"}, "domain 'nodots' name is invalid"),
    (Subdomain, {"domain": "a.example."}, "domain 'a.example.' name is invalid"),
    (Subdomain, {"domain": "a..example"}, "domain 'a..example' name is invalid"),
    (Subdomain, {"domain": "-a.example"}, "domain '-a.example' name is invalid"),
    (Subdomain, {"domain": "192.0.2.1"}, "domain '192.0.2.1' name is invalid"),
    (Subdomain, {"domain": "*.example.org"}, "domain '*.example.org' name is invalid"),
    (Subdomain, {"domain": "a" * 64 + ".example"}, f"domain '{'a' * 64}.example' name is invalid"),
    (Subdomain, {"ips": ()}, f"{ADDRESSES} it has no address"),
    (
        Subdomain,
        {"ips": ("192.0.2.1", "300.0.0.1")},
        f"{ADDRESSES} '300.0.0.1' is not an IP address",
    ),
    (Subdomain, {"ips": ("fe80::1%eth0",)}, f"{ADDRESSES} 'fe80::1%eth0' is not an IP address"),
    (DomainDelegate, {"domain": ""}, "domain '' name is invalid"),
    (Proxy, {"domain": "CATCH_ALL"}, "domain 'catch_all' name is invalid"),
    (Proxy, {"addr": "localhost"}, f"{TARGET} target 'localhost' is not an IP address"),
    (Proxy, {"port": 65536}, f"{TARGET} port 65536 is not between 1 and 65535"),
    (Proxy, {"port": 0, "port_tls": 0}, f"{TARGET} neither port nor port_tls is set"),
    (Proxy, {"addr": "127.0.0.1"}, f"{TARGET} target '127.0.0.1' is a loopback address"),
    (Proxy, {"addr": "64:ff9b::7f00:1"}, f"{TARGET} target '64:ff9b::7f00:1' is a loopback address"),
    (
        ReverseProxy,
        {"domain": "a.example", "secret": "00" * 23},
        f"{SECRET} decryption error: ciphertext has 23 bytes and needs at least 40",
    ),
    (DomainDelegate, {"domain": "a.gw1.example"}, MANAGED),
    (ReverseProxy, {"domain": "a.example", "secret": "xy"}, "failed to decrypt secret: it is not hex"),
    (Gateway4To6, {"public_key": "AA"}, f"{KEY} it is not base64"),
    (
        Gateway4To6,
        {"public_key": "AAAA"},
        f"{KEY} it has 3 bytes, not 32",
    ),
    (UnknownWorkload, {"workload_type": 12}, "type of reservation not supported: virtual_machine"),
    (UnknownWorkload, {"workload_type": 0}, "type of reservation not supported: zdb"),
]


@pytest.mark.parametrize(("model", "members", "text"), BAD)
async def test_p1_p2_a_strict_explorer_refuses_what_a_gateway_would(
    grid: Any, model: Any, members: Any, text: str
) -> None:
    answer = await grid.post(grid.workload(model, **members))
    assert (answer.status, answer.error) == (400, text)


async def test_a_lenient_explorer_leaves_it_to_the_gateway(lenient: Any) -> None:
    for number, (model, members, _) in enumerate(BAD, 1):
        assert await lenient.create(model, **members) == number
    polled = (await lenient.poll(0)).json
    assert [item["id"] for item in polled] == list(range(1, len(BAD) + 1))
    assert {item["workload_type"] for item in polled} == {0, 5, 6, 7, 8, 9, 12}


@pytest.mark.parametrize(
    ("model", "members"),
    [
        (Subdomain, {"domain": "_acme-challenge.A_b.example"}),
        (DomainDelegate, {"domain": "alice.example"}),
        (Proxy, {"port": 0}),
        (Proxy, {"addr": "10.1.2.3"}),  # a gateway may open it
        (Subdomain, {"domain": "bücher.gw1.example"}),
        (ReverseProxy, {"domain": "a.example", "secret": "00" * 41}),
        (Gateway4To6, {"public_key": "eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo="}),
    ],
)
async def test_a_strict_explorer_takes_what_a_gateway_would(grid: Any, model: Any, members: Any) -> None:
    assert await grid.create(model, **members) == 1


async def test_ids_grow_over_all_types_and_nodes(grid: Any, stranger: Identity) -> None:
    assert (await grid.register_gateway(stranger)).status == 201
    pool = await grid.reserve_pool(grid.user, grid.tid, [stranger.node_id])
    ids = [
        await grid.create(),
        await grid.create(Proxy),
        await grid.create(node_id=stranger.node_id, pool_id=pool),
        await grid.create(DomainDelegate, domain="alice.example"),
    ]
    assert ids == [1, 2, 3, 4]


async def test_lists_are_filtered(grid: Any) -> None:
    await grid.create()
    await grid.create(Proxy)
    for query, ids in [
        ("", [1, 2]),
        ("?customer_tid=1&workload_type=5", [2]),
        ("?customer_tid=2", []),
        ("?next_action=3&workload_type=7", [1]),
        ("?size=1&page=2", [2]),
    ]:
        assert [item["id"] for item in (await grid.call("GET", f"/reservations/workloads{query}")).json] == ids
    assert (await grid.call("GET", "/reservations/workloads?next_action=x")).status == 400


async def test_e3_the_paths_that_go_clients_really_call(grid: Any) -> None:
    answer = await grid.call("POST", "/workloads", grid.workload(), by=(grid.user, grid.tid))
    assert (answer.status, answer.json) == (201, {"reservation_id": 1})
    assert [item["id"] for item in (await grid.call("GET", "/workloads?customer_tid=1")).json] == [1]
    stored = (await grid.call("GET", "/workloads/1")).json
    approval = signing.sign_approval(grid.workload(epoch=stored["epoch"]), "delete", 1, grid.user)
    body = {"tid": 1, "signature": approval.signature}
    assert (await grid.call("POST", "/workloads/1/sign/delete", body)).status == 201


async def test_a_delete_signature_covers_the_explorers_epoch(grid: Any) -> None:
    grid.explorer.now += 3
    created = grid.workload(epoch=1611000000)
    assert (await grid.post(created)).status == 201
    wrong = signing.sign_approval(created, "delete", grid.tid, grid.user)
    body = {"tid": grid.tid, "signature": wrong.signature}
    answer = await grid.call("POST", "/reservations/workloads/1/sign/delete", body)
    assert (answer.status, answer.error) == (401, "failed to verify signature: signature does not match")
    answer = await grid.sign("delete", 1, grid.user, grid.tid)
    assert (answer.status, answer.text) == (201, "null\n")


async def test_e8_a_signed_deletion_is_seen_in_lists_at_once(grid: Any) -> None:
    await grid.create()
    await grid.delete(1)
    assert [item["id"] for item in (await grid.call("GET", "/reservations/workloads?next_action=4")).json] == [1]
    assert (await grid.call("GET", "/reservations/workloads?next_action=3")).json == []
    stored = await grid.get(1)
    assert stored["next_action"] == 4
    assert stored["signatures_delete"][0]["tid"] == 1
    assert stored["signatures_delete"][0]["epoch"] == 1611000000


async def test_signatures_that_are_refused(grid: Any, stranger: Identity) -> None:
    await grid.create(signing_request_delete=SigningRequest(signers=(1, 9), quorum_min=2))
    path = "/reservations/workloads/1/sign/delete"
    good = {"tid": 1, "signature": signing.sign_approval(grid.workload(), "delete", 1, grid.user).signature}
    wrong_word = {"tid": 1, "signature": signing.sign_approval(grid.workload(), "provision", 1, grid.user).signature}
    for where, body, status, text in [
        (path, b"{", 400, "not valid JSON"),
        (path, {"tid": 1, "signature": "zz"}, 400, "signature is not hex"),
        (path.replace("/1/", "/5/"), good, 404, "mongo: no documents in result"),
        (path, {**good, "tid": 2}, 401, "signature not required for user '2'"),
        (path, {**good, "tid": 9}, 404, "mongo: no documents in result"),
        (path, wrong_word, 401, "failed to verify signature"),
        (path, {"tid": 1, "signature": "00" * 64}, 401, "failed to verify signature"),
        (path, good, 201, ""),
        (path, good, 400, "user '1' has signed already"),
    ]:
        answer = await grid.call("POST", where, body)
        assert answer.status == status, answer.text
        assert text in answer.text


async def test_a_quorum_needs_all_its_signers(grid: Any, stranger: Identity) -> None:
    tid = await grid.register("bob.3bot", stranger)
    await grid.create(signing_request_delete=SigningRequest(signers=(grid.tid, tid), quorum_min=2))
    await grid.delete(1)
    assert (await grid.get(1))["next_action"] == 3
    assert (await grid.sign("delete", 1, stranger, tid)).status == 201
    assert (await grid.get(1))["next_action"] == 4


async def test_a_quorum_of_0_is_never_reached(grid: Any) -> None:
    await grid.create(signing_request_delete=SigningRequest(signers=(grid.tid,), quorum_min=0))
    assert (await grid.sign("delete", 1, grid.user, grid.tid)).status == 201
    assert (await grid.get(1))["next_action"] == 3


async def test_e6_a_provision_quorum_is_waited_for(grid: Any) -> None:
    await grid.create(signing_request_provision=SigningRequest(signers=(grid.tid,), quorum_min=1))
    assert (await grid.get(1))["next_action"] == 1
    assert (await grid.poll(0)).json == []
    assert (await grid.sign("provision", 1, grid.user, grid.tid)).status == 201
    assert (await grid.get(1))["next_action"] == 3
    assert [item["id"] for item in (await grid.poll(0)).json] == [1]


async def test_e6_without_a_provision_quorum_no_signature_is_expected(grid: Any) -> None:
    await grid.create(signing_request_provision=SigningRequest(signers=(grid.tid,), quorum_min=0))
    assert (await grid.get(1))["next_action"] == 3
    answer = await grid.sign("provision", 1, grid.user, grid.tid)
    assert (answer.status, answer.error) == (401, "workload not expecting signatures")


async def test_a_pool_knows_what_runs_in_it(grid: Any) -> None:
    await grid.create()
    await grid.create(Proxy)

    async def active() -> list[int]:
        return (await grid.call("GET", f"/reservations/pools/{grid.pool}")).json["active_workload_ids"]

    assert await active() == []
    for gwid in ("1-1", "2-1"):
        assert (await grid.put(gwid, grid.result())).status == 201
    assert await active() == [1, 2]
    await grid.delete(1)
    assert await active() == [1, 2]
    assert (await grid.gone("1-1")).status == 200
    assert (await grid.put("2-1", grid.result(ResultState.ERROR, "no"))).status == 201
    assert await active() == []
