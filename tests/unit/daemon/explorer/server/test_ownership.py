"""The ``__owner__`` lookup at registration, against a real DNS responder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from tfgateway.identity.keys import Identity


class Responder(asyncio.DatagramProtocol):
    """Answers TXT queries from a table; a name that it does not have does not exist."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer: Any) -> None:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        name = query.question[0].name
        texts = self.texts.get(name.to_text())
        if texts is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            answer.answer.append(dns.rrset.from_text_list(name, 60, "IN", "TXT", texts))
        self.transport.sendto(answer.to_wire(), peer)


def _owner(identity: str, owner: str) -> str:
    text = json.dumps({"identity": identity, "owner": owner})
    # Several strings in one record belong together.
    return " ".join(json.dumps(text[start : start + 100]) for start in range(0, len(text), 100))


@pytest.fixture
async def responder() -> AsyncIterator[Responder]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Responder, local_addr=("127.0.0.1", 0)
    )
    yield protocol
    transport.close()


async def test_a_gateway_registers_domains_that_it_serves(
    responder: Responder, start_explorer: Any, gateway: Identity, stranger: Identity
) -> None:
    port = responder.transport.get_extra_info("sockname")[1]
    explorer = await start_explorer(owner_resolver=f"127.0.0.1:{port}")
    farm = {"name": "f", "threebot_id": 1, "wallet_addresses": [{"asset": "TFT", "address": "x"}]}
    assert (await explorer.call("POST", "/farms", farm)).status == 201
    body = {
        "node_id": gateway.node_id,
        "farm_id": 1,
        "os_version": "x",
        "public_key_hex": gateway.public_key.hex(),
        "location": {"city": "Ghent"},
        "managed_domains": ["gw1.example", "gw2.example"],
    }
    own = _owner(gateway.node_id, gateway.node_id)
    responder.texts["__owner__.gw1.example."] = ['"v=spf1"', '"{"', own]
    other = stranger.node_id
    wrong = [_owner(gateway.node_id, "7"), _owner(other, gateway.node_id), _owner(other, other), '"x"']
    for texts in (None, wrong, *([text] for text in wrong)):
        responder.texts.pop("__owner__.gw2.example.", None)
        if texts:
            responder.texts["__owner__.gw2.example."] = texts
        answer = await explorer.call("POST", "/gateways", body, by=(gateway, gateway.node_id))
        assert answer.status == 403, texts
        assert "gw2.example" in answer.error
    responder.texts["__owner__.gw2.example."] = [own]
    assert (await explorer.call("POST", "/gateways", body, by=(gateway, gateway.node_id))).status == 201
