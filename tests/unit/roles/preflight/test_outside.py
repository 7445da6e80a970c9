"""Warnings about what a gateway needs of others, with a resolver and an explorer on loopback."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
import yaml

ROLES = Path(__file__).resolve().parents[4] / "roles"
RECORDS = {
    ("tf-gateway-right.gateway.example.", "A"): "127.0.0.1",
    ("tfgw-right.gateway.example.", "NS"): "TF-gateway-right.gateway.example.",
    ("tf-gateway-wrong.gateway.example.", "A"): "192.0.2.9",
    ("tfgw-wrong.gateway.example.", "NS"): "ns.elsewhere.example.",
}
TASKS = [
    {
        "ansible.builtin.include_role": {"name": "tfgrid.gateway.preflight", "tasks_from": "outside"},
    }
]


class Explorer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/v1/gateways" else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def resolver() -> Iterator[int]:
    """Its port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            wire, peer = server.recvfrom(4096)
            if not wire:
                return
            query = dns.message.from_wire(wire)
            question = query.question[0]
            kind = dns.rdatatype.to_text(question.rdtype)
            reply = dns.message.make_response(query)
            value = RECORDS.get((question.name.to_text().lower(), kind))
            if value is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            else:
                reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, value))
            server.sendto(reply.to_wire(), peer)

    thread = threading.Thread(target=serve)
    thread.start()
    port: int = server.getsockname()[1]
    yield port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendto(b"", ("127.0.0.1", port))
    thread.join()
    server.close()


@pytest.fixture(scope="module")
def said(playbook: Callable[..., Any], resolver: int) -> dict[str, list[str]]:
    """By host, the warnings."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Explorer) as explorer:
        threading.Thread(target=explorer.serve_forever).start()
        url = f"http://127.0.0.1:{explorer.server_address[1]}/api/v1"
        hosts = {name: {"ansible_host": "127.0.0.1"} for name in ("right", "wrong", "nowhere")}
        hosts["wrong"]["gateway_explorer_url"] = "http://127.0.0.1:9/api/v1"
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "gateway_explorer_url": url,
            "gateway_domain_suffixes": ["gateway.example"],
            "preflight_resolver": "127.0.0.1",
            "preflight_resolver_port": resolver,
        }
        run = playbook(TASKS, {f"tf-gateway-{name}": value for name, value in hosts.items()}, variables=variables)
        explorer.shutdown()
    assert run.code == 0, run.output
    results = run.tasks["Warn of what is missing outside"]
    return {host: result.get("msg", []) for host, result in results.items() if not result.get("skipped")}


def test_nothing_is_said_when_all_is_there(said: dict[str, list[str]]) -> None:
    assert "tf-gateway-right" not in said


def test_records_that_point_elsewhere_are_told_with_what_to_create(said: dict[str, list[str]]) -> None:
    explorer, address, delegation = said["tf-gateway-wrong"]
    assert "http://127.0.0.1:9/api/v1 does not answer tf-gateway-wrong" in explorer
    assert address == (
        "tf-gateway-wrong.gateway.example has 192.0.2.9: create in its parent zone: "
        "tf-gateway-wrong.gateway.example. A 127.0.0.1"
    )
    assert delegation == (
        "tfgw-wrong.gateway.example is not delegated here: create in its parent zone: "
        "tfgw-wrong.gateway.example. NS tf-gateway-wrong.gateway.example."
    )


def test_names_that_do_not_exist_are_told_so(said: dict[str, list[str]]) -> None:
    assert "has no address" in said["tf-gateway-nowhere"][0]


def test_names_are_derived_as_the_role_gateway_does() -> None:
    theirs = yaml.safe_load((ROLES / "gateway" / "defaults" / "main.yml").read_text())["gateway_domain_suffixes"]
    ours = yaml.safe_load((ROLES / "preflight" / "vars" / "main.yml").read_text())["_preflight_suffixes"]
    assert str(theirs) in ours
