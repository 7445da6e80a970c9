"""Several services and gateways in one client, and other ones while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from tfgateway.cli.tunnel.status import as_data
from tfgateway.net.proxyproto import Addresses, encode
from tfgateway.tunnel.client.metrics import ClientCollector
from tfgateway.tunnel.client.model import ClientOptions, ConfiguredTunnel, Phase, RemoteStatus
from tfgateway.tunnel.client.tunnels import ClientTunnels

from tests.support.waiting import soon

from .conftest import NO_TUNNEL, NOT_ANSWERED, Gateway, World, ask

HOME, BLOG = b"7:home-secret", b"7:blog-secret"
ADDRESSES = Addresses("192.0.2.7", 1234, "203.0.113.1", 443)


def tunnel(name: str, gateway: Gateway, port: int, secret: bytes = HOME, **options: object) -> ConfiguredTunnel:
    local = ("127.0.0.1", port)
    given = ClientOptions(secret, local, local, backoff=0.05, may_change=True)
    return ConfiguredTunnel(name, ("127.0.0.1", gateway.port), replace(given, **options))  # type: ignore[arg-type]


@pytest.fixture
async def tunnels() -> AsyncIterator[ClientTunnels]:
    made = ClientTunnels(lambda _status: None)
    yield made
    await made.close()


async def connected(tunnels: ClientTunnels, count: int) -> list[RemoteStatus]:
    await soon(lambda: [one.phase for one in tunnels.statuses] == [Phase.CONNECTED] * count)
    return tunnels.statuses


def gateway(world: World) -> Gateway:
    made = world.gateway(tunnel_grace=0.2)
    made.tunnels.add_secret(HOME)
    made.tunnels.add_secret(BLOG)
    return made


async def named(world: World, name: bytes) -> int:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name + b":" + await reader.read())
        writer.close()

    return await world.service(service)


async def test_several_services_at_several_gateways(world: World, tunnels: ClientTunnels) -> None:
    one, other = gateway(world), Gateway("other", world.runtime / "other", world.gateways[0].settings)
    (world.runtime / "other").mkdir()
    other.start()
    other.tunnels.add_secret(HOME)
    home, blog = await named(world, b"home"), await named(world, b"blog")
    tunnels.apply([tunnel("home", one, home), tunnel("home", other, home), tunnel("blog", one, blog, BLOG)])
    await connected(tunnels, 3)
    assert await ask(one.visit(b"x", HOME)) == b"home:x"
    assert await ask(other.visit(b"x", HOME)) == b"home:x"
    assert await ask(one.visit(b"x", BLOG)) == b"blog:x"
    await soon(lambda: [one.visitors for one in tunnels.statuses] == [1, 1, 1])
    registry = CollectorRegistry()
    registry.register(ClientCollector(lambda: tunnels.statuses))
    labels = {"tunnel": "blog", "gateway": f"127.0.0.1:{one.port}"}
    await soon(lambda: registry.get_sample_value("tfgateway_tunnel_client_visitors_active", labels) == 0)
    assert time.time() - 60 < registry.get_sample_value("tfgateway_tunnel_client_last_visit_timestamp_seconds", labels)
    for name, value in {"connected": 1, "visitors_total": 1, "received_bytes_total": 1, "sent_bytes_total": 6}.items():
        assert registry.get_sample_value(f"tfgateway_tunnel_client_{name}", labels) == value
    other.close()


async def test_what_changes_holds_for_the_next_visitors(world: World, tunnels: ClientTunnels) -> None:
    one = gateway(world)
    first, second = await named(world, b"first"), await named(world, b"second")
    tunnels.apply([tunnel("home", one, first)])
    await connected(tunnels, 1)
    running = one.visit(b"a", HOME, ADDRESSES)
    await soon(lambda: tunnels.statuses[0].active == 1)
    tunnels.apply([tunnel("home", one, second, proxy_protocol=1)])
    assert await ask(one.visit(b"b", HOME, ADDRESSES)) == b"second:" + encode(1, ADDRESSES) + b"b"
    assert await ask(running, b"c") == b"first:ac"
    (status,) = tunnels.statuses
    assert (status.sessions, status.visitors) == (1, 2)


async def test_what_is_taken_out_serves_who_is_there_to_the_end(world: World, tunnels: ClientTunnels) -> None:
    one = gateway(world)
    port = await named(world, b"home")
    tunnels.apply([tunnel("home", one, port), tunnel("blog", one, port, BLOG)])
    home, _ = await connected(tunnels, 2)
    running = one.visit(b"a", HOME)
    await soon(lambda: home.active == 1)
    tunnels.apply([tunnel("blog", one, port, BLOG)])
    await soon(lambda: not any(client.session.may_open for client in one.tunnels._registry.registered()[:1]))
    assert await ask(one.visit(b"new", HOME)) == NO_TUNNEL
    assert await ask(one.visit(b"x", BLOG)) == b"home:x"
    assert await ask(running, b"b") == b"home:ab"
    await soon(lambda: one.metric("tfgateway_tunnels") == 1)
    assert not tunnels.ended.is_set()


async def test_another_secret_is_another_session(world: World, tunnels: ClientTunnels) -> None:
    one = gateway(world)
    port = await named(world, b"home")
    tunnels.apply([tunnel("home", one, port)])
    await connected(tunnels, 1)
    running = one.visit(b"a", HOME)
    await soon(lambda: tunnels.statuses[0].active == 1)
    tunnels.apply([tunnel("home", one, port, BLOG)])
    await connected(tunnels, 1)
    assert await ask(one.visit(b"x", BLOG)) == b"home:x"
    assert await ask(running, b"b") == b"home:ab"


async def test_more_visitors_than_the_client_takes(world: World, tunnels: ClientTunnels) -> None:
    one = gateway(world)
    tunnels.apply([tunnel("home", one, await named(world, b"home"), max_visitors=1)])
    (status,) = await connected(tunnels, 1)
    running = one.visit(b"a", HOME)
    await soon(lambda: status.active == 1)
    assert await ask(one.visit(b"b", HOME)) == NOT_ANSWERED
    assert await ask(running) == b"home:a"
    await soon(lambda: status.active == 0)
    assert (status.visitors, status.failed) == (1, 1)
    assert await ask(one.visit(b"c", HOME)) == b"home:c"


async def test_one_that_is_taken_out_before_it_is_connected(world: World, tunnels: ClientTunnels) -> None:
    one = gateway(world)
    port = one.port
    tunnels.apply([tunnel("home", one, port, b"7:unknown")])
    await soon(lambda: one.metric("tfgateway_tunnels_early") == 1)
    tunnels.apply([])
    await soon(lambda: one.metric("tfgateway_tunnels_early") == 0)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(tunnels.ended.wait(), 0.1)
    assert not tunnels.ended.is_set()


async def test_the_round_trip_is_measured_when_the_client_has_registered(world: World, tunnels: ClientTunnels) -> None:
    one = gateway(world)
    tunnels.apply([tunnel("home", one, await named(world, b"home"))])
    (status,) = await connected(tunnels, 1)
    await soon(lambda: tunnels.statuses[0].round_trip > 0)
    (client,) = one.tunnels._registry.registered()
    await soon(lambda: client.session.round_trip > 0)  # at the gateway too
    assert as_data(status)["round_trip"] == round(status.round_trip, 6)
    one.tunnels.remove_secret(HOME)
    await soon(lambda: tunnels.statuses[0].phase is not Phase.CONNECTED and tunnels.statuses[0].round_trip == 0)
