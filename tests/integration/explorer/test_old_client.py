"""The explorer process as old Go programs see it: requests byte for byte as the specification says, over a raw socket.

Nothing of ours takes part but the key pair: headers, signatures and bodies are composed here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import pytest
from tfgateway.explorer import user
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import AdmittedGateway
from tfgateway.identity.keys import Identity

from tests.support.processes import Explorer

GATEWAY = Identity.from_seed(bytes(range(0x20)))
USER = Identity.from_seed(bytes(range(0x20, 0x40)))
NODE = GATEWAY.node_id
BROKEN_EXPIRES = b"'\xef\xbf\xbd'"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class GoClient:
    """Go's net/http, as far as the server can tell."""

    def __init__(self, port: int) -> None:
        self._port = port

    def call(self, method: str, path: str, body: str = "", *, by: tuple[Identity, str] | None = None) -> Answer:
        lines = [
            f"{method} /api/v1{path} HTTP/1.1".encode(),
            f"Host: 127.0.0.1:{self._port}".encode(),
            b"User-Agent: Go-http-client/1.1",
        ]
        if method != "GET":
            lines.append(f"Content-Length: {len(body.encode())}".encode())
        if by:
            lines += self._signed(*by)
        lines.append(b"Accept-Encoding: gzip")
        request = b"\r\n".join([*lines, b"", body.encode()])
        with socket.create_connection(("127.0.0.1", self._port), 30) as connection:
            connection.sendall(request)
            return self._read(connection)

    def _signed(self, identity: Identity, key_id: str) -> list[bytes]:
        created = int(time.time())
        date = formatdate(created, usegmt=True)
        text = f"(created): {created}\ndate: {date}\nthreebot-id: {key_id}"
        signature = base64.b64encode(identity.sign(text.encode()))
        authorization = (
            b'Signature keyId="%s",algorithm="ed25519",created="%d",expires="%s",'
            b'headers="(created) date threebot-id",signature="%s"'
        ) % (key_id.encode(), created, BROKEN_EXPIRES, signature)
        return [b"Authorization: " + authorization, f"Date: {date}".encode(), f"Threebot-Id: {key_id}".encode()]

    def _read(self, connection: socket.socket) -> Answer:
        with connection.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            headers: dict[str, str] = {}
            while (line := stream.readline().rstrip(b"\r\n")) != b"":
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            return Answer(status, headers, stream.read(int(headers["content-length"])))


@pytest.fixture
def go(open_explorer: Explorer) -> GoClient:
    return GoClient(open_explorer.port)


def _furnish(go: GoClient) -> None:
    """A user with tid 1, a farm, the gateway, a pool."""
    user = (
        '{"id":0,"name":"alice.3bot","email":"alice@example.com",'
        f'"pubkey":"{USER.public_key.hex()}","host":"","description":""}}\n'
    )
    assert go.call("POST", "/users", user).status == 201
    farm = (
        '{"id":0,"threebot_id":1,"name":"freefarm","wallet_addresses":[{"asset":"TFT","address":"G"}],"location":{}}\n'
    )
    answer = go.call("POST", "/farms", farm)
    assert (answer.status, answer.json) == (201, {"id": 1})
    assert go.call("POST", "/gateways", _gateway(), by=(GATEWAY, NODE)).status == 201
    text = f'{{"pool_id":0,"cus":0,"sus":0,"ipv4us":0,"node_ids":["{NODE}"],"currencies":["TFT"]}}'
    pool = (
        f'{{"json":{json.dumps(text)},"data_reservation":{text},"customer_tid":1,'
        f'"customer_signature":"{USER.sign(text.encode()).hex()}"}}\n'
    )
    answer = go.call("POST", "/reservations/pools", pool)
    assert (answer.status, answer.json["reservation_id"]) == (201, 1)


def _gateway() -> str:
    """As the old daemon registers: no generic_vm, lists may be null, everything else zero."""
    return (
        f'{{"id":0,"node_id":"{NODE}","farm_id":1,"os_version":"master@59aa105","created":0,"updated":0,"uptime":0,'
        '"address":"","location":{"city":"Unknown","country":"Unknown","continent":"","latitude":0,"longitude":0},'
        f'"public_key_hex":"{GATEWAY.public_key.hex()}","workloads":{{"network":0,"network_resource":0,"volume":0,'
        '"zdb_namespace":0,"container":0,"k8s_vm":0,"proxy":0,"reverse_proxy":0,"subdomain":0,"delegate_domain":0},'
        '"managed_domains":["gw1.example"],"tcp_router_port":18000,"dns_nameserver":null,"free_to_use":false}\n'
    )


def _subdomain(epoch: int) -> str:
    """A workload as an old user posts it, signed."""
    challenge = f"1{NODE}11SUBDOMAIN{epoch}metawww.gw1.example203.0.113.52001:db8::5"
    signature = USER.sign(hashlib.sha256(challenge.encode()).digest()).hex()
    return (
        f'{{"workload_id":1,"node_id":"{NODE}","pool_id":1,"reference":"","description":"",'
        '"signing_request_provision":{"signers":null,"quorum_min":0},'
        '"signing_request_delete":{"signers":[1],"quorum_min":1},"id":0,"json":"","customer_tid":1,'
        f'"customer_signature":"{signature}","next_action":0,"signatures_provision":null,'
        '"signature_farmer":{"tid":0,"signature":"","epoch":0},"signatures_delete":null,'
        f'"epoch":{epoch},"metadata":"meta","result":{{"category":0,"workload_id":"","data_json":null,"signature":"",'
        '"state":0,"message":"","epoch":0,"node_id":""},"workload_type":7,"version":0,'
        '"domain":"www.gw1.example","ips":["203.0.113.5","2001:db8::5"]}\n'
    )


def _result(state: int, message: str) -> str:
    signature = GATEWAY.sign(bytes([state]) + message.encode() + b"null").hex()
    return (
        f'{{"category":7,"workload_id":"1-1","data_json":null,"signature":"{signature}","state":{state},'
        f'"message":{json.dumps(message)},"epoch":{int(time.time())},"node_id":""}}\n'
    )


def _poll(go: GoClient, start: int) -> tuple[list[tuple[int, int]], int]:
    answer = go.call("GET", f"/reservations/nodes/{NODE}/workloads?from={start}")
    assert answer.status == 200
    return [(item["id"], item["next_action"]) for item in answer.json or []], int(answer.headers["x-last-id"])


def _approve_deletion(go: GoClient, path: str, *, epoch: int) -> Answer:
    challenge = f"1{NODE}11SUBDOMAIN{epoch}metawww.gw1.example203.0.113.52001:db8::5delete1"
    signature = USER.sign(hashlib.sha256(challenge.encode()).digest()).hex()
    return go.call("POST", f"{path}/sign/delete", f'{{"tid":1,"signature":"{signature}","epoch":0}}\n')


def test_a_workload_of_old_clients_from_creation_to_deletion(go: GoClient) -> None:
    _furnish(go)
    assert go.call("POST", f"/gateways/{NODE}/uptime", '{"uptime":5}\n', by=(GATEWAY, NODE)).body == b"null\n"
    assert _poll(go, 0) == ([], 0)

    answer = go.call("POST", "/reservations/workloads", _subdomain(int(time.time())), by=(USER, "1"))
    assert (answer.status, answer.body) == (201, b'{"reservation_id":1}\n')
    assert _poll(go, 1) == ([(1, 3)], 1)
    assert _poll(go, 2) == ([(1, 0)], 2)

    path = f"/reservations/nodes/{NODE}/workloads/1-1"
    answer = go.call("PUT", path, _result(1, ""), by=(GATEWAY, NODE))
    assert (answer.status, answer.body) == (201, b"null\n")
    counters = (
        '{"cru":0,"mru":0,"hru":0,"sru":0,"network":0,"proxy":0,"reverse_proxy":0,"subdomain":1,"delegate_domain":0}\n'
    )
    assert go.call("POST", f"/gateways/{NODE}/reserved_resources", counters, by=(GATEWAY, NODE)).status == 200
    assert _poll(go, 3) == ([], 1)

    stored = go.call("GET", "/reservations/workloads/1").json
    assert stored["result"]["state"] == 1
    assert _approve_deletion(go, "/reservations/workloads/1", epoch=stored["epoch"]).status == 201
    assert _poll(go, 2) == ([(1, 4)], 2)
    answer = go.call("DELETE", path, by=(GATEWAY, NODE))
    assert (answer.status, answer.body) == (200, b"null\n")
    stored = go.call("GET", "/reservations/workloads/1").json
    assert (stored["next_action"], stored["result"]["state"]) == (6, 2)


def test_e3_the_paths_that_the_go_client_calls(go: GoClient) -> None:
    _furnish(go)
    assert go.call("POST", "/workloads", _subdomain(int(time.time())), by=(USER, "1")).status == 201
    listed = go.call("GET", "/workloads?customer_tid=1&page=1&size=10").json
    assert [item["id"] for item in listed] == [1]
    assert _approve_deletion(go, "/workloads/1", epoch=listed[0]["epoch"]).status == 201


def test_an_error_of_an_old_gateway(go: GoClient) -> None:
    _furnish(go)
    assert go.call("POST", "/reservations/workloads", _subdomain(0), by=(USER, "1")).status == 201
    path = f"/reservations/nodes/{NODE}/workloads/1-1"
    message = "cannot add subdomain www to zone gw1.example: subdomain already reserved"
    assert go.call("PUT", path, _result(0, message), by=(GATEWAY, NODE)).status == 201
    assert go.call("DELETE", path, by=(GATEWAY, NODE)).status == 200
    stored = go.call("GET", "/reservations/workloads/1").json
    assert (stored["next_action"], stored["result"]["state"], stored["result"]["message"]) == (6, 2, message)


def test_the_go_client_reads_errors(go: GoClient) -> None:
    answer = go.call("POST", "/gateways", _gateway())
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Signature headers="(created) date threebot-id"'
    assert answer.json["error"].startswith("unauthorized access: ")
    answer = go.call("POST", "/gateways", _gateway(), by=(GATEWAY, NODE))
    assert (answer.status, answer.body) == (404, b'{"error":"unknown farm id: 1"}\n')
    assert answer.headers["content-type"].startswith("application/json")


async def test_an_old_gateway_joins_a_closed_explorer_once_its_farm_admits_it(explorer: Explorer) -> None:
    old = GoClient(explorer.port)
    async with ExplorerClient(explorer.url, identity=USER, key_id="1") as farmer:
        await user.register(farmer, USER, "alice.3bot", "alice@example.com")
        await user.farm(farmer, 1, "freefarm", "none")
        refused = old.call("POST", "/gateways", _gateway(), by=(GATEWAY, NODE))
        assert refused.status == 403
        assert refused.json["error"] == (
            "farm 1 has not admitted this gateway: its owner has to run "
            f"`tfgateway reserve farm admit --farm 1 --node {NODE} --managed-domain gw1.example`"
        )
        await user.admit(farmer, AdmittedGateway(farm_id=1, node_id=NODE, managed_domains=("gw1.example",)))
    assert old.call("POST", "/gateways", _gateway(), by=(GATEWAY, NODE)).status == 201
    assert old.call("POST", f"/gateways/{NODE}/uptime", '{"uptime":5}\n', by=(GATEWAY, NODE)).status == 200
