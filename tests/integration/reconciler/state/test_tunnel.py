"""A reverse tunnel from the reservation to the visitor, and what `tfgateway state` says of it."""

from __future__ import annotations

import http.client
import time
from typing import Any

from tfgateway.explorer.models import ReverseProxy
from tfgateway.explorer.user import encrypted_secret

from tests.integration.reconciler.conftest import Fleet
from tests.support.processes import CommandLine
from tests.support.waiting import until

DOMAIN = "home.alice.example"


def test_a_tunnel_with_and_without_its_client(fleet: Fleet, web: Any, tfgateway: CommandLine) -> None:
    def told() -> tuple[Any, str, str]:
        (one,) = fleet.state()["reservations"]
        return one["served"], one["verdict"], one["message"]

    fleet.start("proxy")
    fleet.start()
    account = fleet.register("alice")
    secret = f"{account.tid}:hidden-from-everybody"
    sealed = encrypted_secret(account, fleet.node_id, secret)
    number = fleet.reserve(ReverseProxy(node_id=fleet.node_id, domain=DOMAIN, secret=sealed))
    fleet.deployed(number)
    until(lambda: told() == (False, "in_sync", "no client connected"), "no client, and no drift")

    remote, local = f"--remote=127.0.0.1:{fleet.ports['tunnels']}", f"--local=127.0.0.1:{web.port}"
    client = tfgateway("tunnel", remote, local, f"--secret={secret}", "--backoff=0.1", config="")
    until(lambda: told() == (True, "in_sync", ""), "a client")
    tunnel = fleet.state()["reservations"][0]["tunnel"]
    assert tunnel["source"] == "127.0.0.1"
    assert 0 <= time.time() - tunnel["since"] < 600
    visitor = http.client.HTTPConnection("127.0.0.1", fleet.ports["http"], timeout=30)
    visitor.request("GET", "/", headers={"Host": DOMAIN})
    assert visitor.getresponse().status == 501  # the local server's own word; a proxy without a tunnel says 503
    visitor.close()

    assert client.stop() == 0
    until(lambda: told()[2] == "no client connected", "no client any more")
    assert fleet.state()["reservations"][0]["tunnel"] is None
    fleet.delete(number)
    fleet.gone(number)
    late = tfgateway("tunnel", remote, local, f"--secret={secret}", "--json", config="", ready=False)
    until(lambda: '"phase": "waiting"' in late.log, "a client whose reservation is deleted waits")
    assert '"phase": "connected"' not in late.log
