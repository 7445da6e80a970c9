"""Clients, gateway and visitors on real sockets, in one process."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from pathlib import Path

import pytest
import structlog
from tfgateway.tunnel.client.model import Phase
from tfgateway.tunnel.gateway import migration
from tfgateway.tunnel.gateway.failure_budget import FailureBudget
from tfgateway.tunnel.handshake import encode_handshake
from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.session.session import Session
from tfgateway.tunnel.yamux.frames import Flag, GoAway, Kind, encode
from tfgateway.tunnel.yamux.windows import INITIAL_WINDOW

from tests.support.waiting import soon

from .conftest import LIMIT, NO_TUNNEL, NOT_ANSWERED, SECRET, Gateway, World, ask, echo, read_all

BIG = hashlib.shake_128(b"tunnel").digest(3_000_000)
HELLO = (
    encode(Kind.WINDOW_UPDATE, Flag.SYN, 1, 0)
    + encode(Kind.DATA, 0, 1, 4 + len(SECRET))
    + encode_handshake(SECRET)
    + encode(Kind.WINDOW_UPDATE, Flag.FIN, 1, 0)
)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class OldClient:
    """What an old client sends, octet by octet if need be; reads what it is asked to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, count: int) -> bytes:
        received = b""
        async with asyncio.timeout(LIMIT):
            while len(received) < count:
                data = await asyncio.get_running_loop().sock_recv(self.socket, count - len(received))
                assert data, received.hex()
                received += data
        return received

    async def ended(self) -> bytes:
        """What still comes until the gateway closes."""
        received = b""
        try:
            async with asyncio.timeout(LIMIT):
                while data := await asyncio.get_running_loop().sock_recv(self.socket, 65536):
                    received += data
        except ConnectionResetError:
            pass
        self.socket.close()
        return received


async def test_a_visitor_is_led_through_the_tunnel(world: World) -> None:
    gateway = world.gateway()
    status = world.client(gateway, await world.service())
    assert await ask(gateway.visit(b"first "), b"and more") == b"first and more"
    await soon(lambda: gateway.ends == ["closed"])
    await soon(lambda: status.active == 0)
    assert (status.phase, status.visitors, status.received, status.sent) == (Phase.CONNECTED, 1, 14, 14)
    assert gateway.metric("tfgateway_tunnel_bytes_total", direction="to_client") == 14
    assert gateway.metric("tfgateway_tunnel_registrations_total", outcome="new") == 1


async def test_much_both_ways_and_many_at_once(world: World) -> None:
    gateway = world.gateway()
    world.client(gateway, await world.service())
    near = [gateway.visit(b"x") for _ in range(20)]
    sent = [asyncio.create_task(asyncio.get_running_loop().sock_sendall(sock, BIG)) for sock in near]

    async def whole(sock: socket.socket) -> bytes:
        received = bytearray()
        while len(received) <= len(BIG):
            received += await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
        sock.close()
        return bytes(received)

    async with asyncio.timeout(60):
        for received in await asyncio.gather(*map(whole, near)):
            assert received == b"x" + BIG
        await asyncio.gather(*sent)


async def test_half_close_works_in_both_directions(world: World) -> None:
    async def answer_then_listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all I say")
        writer.write_eof()
        heard.append(await reader.read())
        writer.close()

    heard: list[bytes] = []
    gateway = world.gateway()
    world.client(gateway, await world.service(answer_then_listen))
    visitor = gateway.visit(b"question;")
    received = b""
    async with asyncio.timeout(LIMIT):
        while data := await asyncio.get_running_loop().sock_recv(visitor, 100):
            received += data
    assert received == b"all I say"
    await asyncio.get_running_loop().sock_sendall(visitor, b"the rest")
    visitor.close()
    await soon(lambda: heard == [b"question;the rest"])
    await soon(lambda: gateway.ends == ["closed"])


async def test_a_slow_visitor_does_not_slow_the_others(world: World) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(BIG)
        await writer.drain()
        writer.close()

    gateway = world.gateway()
    world.client(gateway, await world.service(flood))
    slow = gateway.visit()  # reads nothing
    await asyncio.sleep(0.1)
    for _ in range(3):
        assert await read_all(gateway.visit()) == BIG
    assert await read_all(slow) == BIG


async def test_t16_a_failed_dial_ends_one_stream_only(world: World) -> None:
    gateway = world.gateway()
    port = await world.service()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        status = world.client(gateway, port, local_tls=taken.getsockname())
        assert await ask(gateway.visit(b"plain")) == b"plain"
        assert await ask(gateway.visit(b"\x16\x03\x01")) == NOT_ANSWERED
        assert await ask(gateway.visit(b"plain")) == b"plain"
    assert (status.phase, status.sessions, status.failed) == (Phase.CONNECTED, 1, 1)


async def test_t16_tls_and_plain_have_their_own_services(world: World) -> None:
    async def secure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"TLS:" + await reader.read())
        writer.close()

    gateway = world.gateway()
    world.client(gateway, await world.service(), local_tls=("127.0.0.1", await world.service(secure)))
    assert await ask(gateway.visit(b"\x16\x03\x01hello")) == b"TLS:\x16\x03\x01hello"
    assert await ask(gateway.visit(b"hello")) == b"hello"


async def test_t4_an_unknown_secret_serves_nobody_until_it_is_known(world: World) -> None:
    gateway = world.gateway(tunnel_grace=0.2)
    status = world.client(gateway, await world.service(), secret=b"7:later")
    await soon(lambda: gateway.metric("tfgateway_tunnels_early") == 1)
    assert status.phase is Phase.WAITING
    assert await ask(gateway.visit(secret=b"7:later")) == NO_TUNNEL
    gateway.tunnels.add_secret(b"7:later")
    await soon(lambda: status.phase is Phase.CONNECTED)
    assert await ask(gateway.visit(b"hello", secret=b"7:later")) == b"hello"
    assert (status.sessions, gateway.metric("tfgateway_tunnels_early")) == (1, 0)


async def test_t4_the_pool_of_unknown_ones_is_small_and_they_are_held_briefly(world: World) -> None:
    gateway = world.gateway(tunnel_unknown=3, tunnel_unknown_time=0.3)
    clients = []
    for number in range(3):
        clients.append(OldClient(gateway.port))
        await clients[-1].send(HELLO.replace(SECRET, b"7:s3cr3t-tunnel-%03d" % number))
        await soon(lambda: gateway.metric("tfgateway_tunnels_early") == len(clients))
    late = OldClient(gateway.port)
    await late.send(HELLO.replace(SECRET, b"7:s3cr3t-tunnel-003"))
    await late.ended()  # one source may fail so often, then its clients are not held any more
    for one in clients:
        assert (await one.ended()).hex() == "000100020000000100000000"
    assert gateway.metric("tfgateway_tunnels_early") == 0


async def test_t4_a_known_secret_registers_however_often_its_source_has_failed(world: World) -> None:
    """One broken host must not lock out its neighbours behind the same address; each refusal is counted."""
    gateway = world.gateway(tunnel_unknown_time=LIMIT)
    gateway.tunnels._failures = FailureBudget(burst=64, per_second=0.0)  # no failure is forgotten on a slow machine
    wrong = [OldClient(gateway.port) for _ in range(70)]
    with structlog.testing.capture_logs() as logs:
        for number, one in enumerate(wrong):
            await one.send(HELLO.replace(SECRET, b"7:s3cr3t-tunnel-%03d" % number))
        await soon(lambda: gateway.metric("tfgateway_tunnel_refusals_total", reason="unknown_secret") == len(wrong))
        refused = OldClient(gateway.port)
        await refused.send(HELLO.replace(b"\x11\x11", b"\x11\x12"))
        await refused.ended()
    assert gateway.metric("tfgateway_tunnel_refusals_total", reason="handshake") == 1
    assert gateway.metric("tfgateway_tunnels_early") == 64
    reasons = [line.get("reason") for line in logs if line["event"] == "tunnel client not registered"]
    assert reasons == ["no service of the gateway has this secret"] * 64
    assert [line["source"] for line in logs if line["log_level"] == "warning"] == ["127.0.0.1"]
    right = OldClient(gateway.port)
    await right.send(HELLO)
    await right.read(24)
    assert gateway.metric("tfgateway_tunnels") == 1
    for one in (*wrong, right):
        one.socket.close()


async def test_t4_the_newest_client_wins_and_the_old_session_is_closed(world: World) -> None:
    gateway = world.gateway()
    old = OldClient(gateway.port)
    await old.send(HELLO)
    assert (await old.read(24)).hex() == "000100020000000100000000000100040000000100000000"
    world.client(gateway, await world.service())
    assert await old.ended() == b""
    assert await ask(gateway.visit(b"new")) == b"new"
    assert gateway.metric("tfgateway_tunnels") == 1
    assert gateway.metric("tfgateway_tunnel_registrations_total", outcome="reconnected") == 1


async def test_several_clients_may_share_the_load(world: World) -> None:
    async def number(of: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(of).encode())
        await asyncio.sleep(0.2)
        writer.close()

    gateway = world.gateway(tunnel_share=True)
    for one in (1, 2):
        world.client(gateway, await world.service(lambda r, w, one=one: number(one, r, w)))
    await soon(lambda: gateway.metric("tfgateway_tunnels") == 2)
    answers = await asyncio.gather(*(read_all(gateway.visit()) for _ in range(10)))
    assert sorted(answers) == [b"1"] * 5 + [b"2"] * 5


async def test_a_revoked_secret_cuts_its_session(world: World) -> None:
    gateway = world.gateway(tunnel_grace=0.1)
    status = world.client(gateway, await world.service())
    assert await ask(gateway.visit(b"x")) == b"x"
    visitor = gateway.visit(b"x")
    assert await asyncio.get_running_loop().sock_recv(visitor, 10) == b"x"
    gateway.tunnels.remove_secret(SECRET)
    with pytest.raises(ConnectionResetError):
        await read_all(visitor)
    await soon(lambda: status.phase is not Phase.CONNECTED)
    assert await ask(gateway.visit()) == NO_TUNNEL
    assert gateway.metric("tfgateway_tunnels") == 0


async def test_a_visitor_waits_for_a_client_that_reconnects(world: World) -> None:
    gateway = world.gateway()
    visitor = asyncio.create_task(ask(gateway.visit(b"patience")))
    await asyncio.sleep(0.2)
    world.client(gateway, await world.service())
    assert await visitor == b"patience"


async def test_a_visitor_of_a_dead_session_is_led_to_the_new_one(world: World) -> None:
    """A half-open peer: it is there, says nothing, and a newer client takes over before the ping finds out."""
    gateway = world.gateway()
    dead = OldClient(gateway.port)
    await dead.send(HELLO)
    await soon(lambda: gateway.metric("tfgateway_tunnels") == 1)
    visitor = asyncio.create_task(ask(gateway.visit(b"hello")))
    await soon(lambda: gateway.metric("tfgateway_tunnel_streams_active") == 1)
    world.client(gateway, await world.service())
    assert await visitor == b"hello"


async def test_nobody_comes_within_the_grace(world: World) -> None:
    gateway = world.gateway(tunnel_grace=0.1)
    assert await ask(gateway.visit()) == NO_TUNNEL
    assert not gateway.tunnels._visits._waiting


async def test_a_dead_peer_is_found_by_ping_and_frees_its_name(world: World) -> None:
    gateway = world.gateway(limits=SessionLimits(ping_every=0.1, pong_within=0.1))
    dead = OldClient(gateway.port)
    await dead.send(HELLO)
    assert (await dead.read(36)).hex().endswith("000200010000000000000000")
    await dead.ended()
    assert gateway.metric("tfgateway_tunnels") == 0


async def test_a_peer_that_answers_pings_stays(world: World) -> None:
    gateway = world.gateway(limits=SessionLimits(ping_every=0.05, pong_within=5))
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    for number in range(3):
        assert await peer.read(12) == encode(Kind.PING, Flag.SYN, 0, number)
        await peer.send(encode(Kind.PING, Flag.ACK, 0, number))
    assert gateway.metric("tfgateway_tunnels") == 1
    peer.socket.close()


async def test_old_clients_get_even_streams_and_syn_before_data(world: World) -> None:
    gateway = world.gateway()
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    visitors = [gateway.visit(b"GET"), gateway.visit(b"GET")]
    expected = b"".join(
        encode(Kind.WINDOW_UPDATE, Flag.SYN, number, 0) + encode(Kind.DATA, 0, number, 3) + b"GET" for number in (2, 4)
    )
    assert await peer.read(len(expected)) == expected
    peer.socket.close()
    for visitor in visitors:
        visitor.close()


async def test_t17_further_streams_of_a_client_are_reset(world: World) -> None:
    gateway = world.gateway()
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    await peer.send(encode(Kind.WINDOW_UPDATE, Flag.SYN, 3, 0) * 1 + encode(Kind.DATA, 0, 3, 1) + b"x")
    assert await peer.read(12) == encode(Kind.WINDOW_UPDATE, Flag.RST, 3, 0)
    assert gateway.metric("tfgateway_tunnels") == 1
    peer.socket.close()


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        HELLO.replace(b"\x11\x11", b"\x11\x12"),
        encode(Kind.DATA, Flag.SYN, 1, 5 + len(SECRET)) + encode_handshake(SECRET) + b"x",
        encode(Kind.WINDOW_UPDATE, Flag.SYN | Flag.FIN, 1, 0),
        encode(Kind.WINDOW_UPDATE, Flag.SYN, 2, 0),
    ],
)
async def test_t14_wrong_handshakes_are_closed(world: World, octets: bytes) -> None:
    gateway = world.gateway()
    peer = OldClient(gateway.port)
    await peer.send(octets)
    await peer.ended()
    assert gateway.metric("tfgateway_tunnels") == 0


async def test_t2_slowloris_on_the_handshake_and_byte_at_a_time(world: World) -> None:
    gateway = world.gateway(head_timeout=0.5)
    silent, slow = OldClient(gateway.port), OldClient(gateway.port)
    for octet in HELLO:
        await slow.send(bytes([octet]))
    assert (await slow.read(24)).hex() == "000100020000000100000000000100040000000100000000"
    await silent.send(HELLO[:20])
    await silent.ended()
    assert gateway.metric("tfgateway_tunnels") == 1
    slow.socket.close()


async def test_t3_a_thousand_clients_at_once(world: World) -> None:
    gateway = world.gateway()
    for number in range(1000):
        gateway.tunnels.add_secret(b"7:s3cr3t-tunnel-%03d" % number)

    async def come(number: int) -> OldClient:
        one = OldClient(gateway.port)
        await one.send(HELLO.replace(SECRET, b"7:s3cr3t-tunnel-%03d" % number))
        await one.read(24)
        return one

    clients = await asyncio.gather(*map(come, range(1000)))
    assert gateway.metric("tfgateway_tunnels") == 1000
    for one in clients:
        one.socket.close()
    await soon(lambda: gateway.metric("tfgateway_tunnels") == 0)


async def test_t12_everything_is_given_back(world: World) -> None:
    gateway = world.gateway(tunnel_grace=0.1)
    port = await world.service()
    world.client(gateway, port)
    assert await ask(gateway.visit(b"x")) == b"x"
    await soon(lambda: not gateway.tasks)
    before, tasks = descriptors(), len(asyncio.all_tasks())
    for number in range(20):
        assert await ask(gateway.visit(b"x")) == b"x"
        gateway.visit(b"x").close()
        peer = OldClient(gateway.port)
        await peer.send(HELLO[: number * 2])
        peer.socket.close()
        assert await ask(gateway.visit(secret=b"nobody's")) == NO_TUNNEL
    await soon(lambda: not gateway.tasks and descriptors() <= before)
    await soon(lambda: len(asyncio.all_tasks()) <= tasks)
    assert not gateway.tunnels._newcomers
    assert len(gateway.tunnels._visits) == 0


async def test_a_window_violation_is_answered_with_go_away(world: World) -> None:
    gateway = world.gateway(tunnel_grace=0.1)
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    visitor = gateway.visit(b"GET")
    await peer.read(27)
    await peer.send(encode(Kind.DATA, 0, 2, 300_000))
    assert await peer.ended() == encode(Kind.GO_AWAY, 0, 0, 1)
    assert await read_all(visitor) == NO_TUNNEL


async def test_a_peer_that_reads_nothing_is_dropped(world: World) -> None:
    gateway = world.gateway(limits=SessionLimits(write_timeout=0.3))
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    pings = encode(Kind.PING, Flag.SYN, 0, 0) * 1000
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        async with asyncio.timeout(LIMIT):
            while True:
                await peer.send(pings)
    assert gateway.metric("tfgateway_tunnels") == 0


async def test_what_slow_visitors_may_hold_is_bounded(world: World) -> None:
    gateway = world.gateway(limits=SessionLimits(buffered=100_000))
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    visitor = gateway.visit(b"GET")
    await peer.read(27)
    await peer.send(encode(Kind.WINDOW_UPDATE, Flag.ACK, 2, 0))
    window = INITIAL_WINDOW
    while True:  # until the visitor's kernel buffers are full and ours too
        if window >= 50_000:
            await peer.send(encode(Kind.DATA, 0, 2, 50_000) + bytes(50_000))
            window -= 50_000
            continue
        answer = await peer.read(12)
        if answer == encode(Kind.WINDOW_UPDATE, Flag.RST, 2, 0):
            break
        window += int.from_bytes(answer[8:])
    with pytest.raises(ConnectionResetError):
        await read_all(visitor)
    peer.socket.close()


@pytest.mark.parametrize("traffic", ["idle", "busy"])
async def test_a_worker_hands_its_sessions_over_and_nobody_notices(world: World, traffic: str) -> None:
    old = world.gateway()
    status = world.client(old, await world.service(echo))
    await soon(lambda: status.phase is Phase.CONNECTED)
    visitors = [old.visit(b"begin ") for _ in range(5)] if traffic == "busy" else []
    loop = asyncio.get_running_loop()
    pieces = [BIG[:1_000_000], BIG[1_000_000:2_000_000], BIG[2_000_000:]]

    async def talk(sock: socket.socket) -> bytes:
        received = bytearray()
        for piece in pieces:
            sending = asyncio.create_task(loop.sock_sendall(sock, piece))
            want = len(received) + len(piece) if received else len(piece)
            while len(received) < want:
                received += await loop.sock_recv(sock, 1 << 16)
            await sending
        sock.shutdown(socket.SHUT_WR)
        return bytes(received) + await read_all(sock)

    talking = [asyncio.create_task(talk(sock)) for sock in visitors]
    await asyncio.sleep(0.05)
    new = world.gateway(listening=old.stop_accepting())
    await soon(lambda: any(link.name == new.name for link in old.tunnels._links._links))
    async with asyncio.timeout(LIMIT):
        await old.tunnels.drain()
    assert old.metric("tfgateway_tunnels") == 0
    assert await ask(old.visit(b"late")) == b"late"  # one that was still in the old worker is led to the new one
    old.close()
    for received in await asyncio.gather(*talking):
        assert received == b"begin " + BIG
    assert await ask(new.visit(b"after")) == b"after"
    assert (status.sessions, status.phase) == (1, Phase.CONNECTED)
    assert new.metric("tfgateway_tunnel_registrations_total", outcome="moved") == 1
    await soon(lambda: new.ends == ["closed"] * (len(visitors) + 2))
    assert old.ends == ["handed_over"] * (len(visitors) + 1)


async def test_an_idle_session_waits_for_a_worker_that_has_not_been_heard_of(world: World) -> None:
    old = world.gateway()
    status = world.client(old, await world.service())
    await soon(lambda: status.phase is Phase.CONNECTED)
    old.tunnels.set_peers({"worker-0"})  # the one whose name is greater connects: here the old one, again and again
    draining = asyncio.create_task(old.tunnels.drain())
    await asyncio.sleep(0.1)
    assert not draining.done()
    new = world.gateway(name="worker-0", listening=old.stop_accepting())
    async with asyncio.timeout(LIMIT):
        await draining
    old.close()
    assert await ask(new.visit(b"after")) == b"after"
    assert (status.sessions, status.phase) == (1, Phase.CONNECTED)


async def test_a_session_on_its_way_to_a_worker_that_is_about_to_end_moves_on(world: World) -> None:
    one, two, three = world.gateway(), world.gateway(), world.gateway()
    status = world.client(one, await world.service())
    await soon(lambda: status.phase is Phase.CONNECTED)
    for gateway in world.gateways:
        await soon(lambda gateway=gateway: len([link for link in gateway.tunnels._links._links if link.hellos]) == 2)
    links = one.tunnels._links
    links._turn = [link.name for link in links._links].index(two.name)  # it is the next but one that gets the session

    async def end(gateway: Gateway) -> None:
        gateway.stop_accepting().close()
        await gateway.tunnels.drain()
        gateway.close()

    async with asyncio.timeout(LIMIT):
        await asyncio.gather(end(one), end(two))
    assert two.metric("tfgateway_tunnel_registrations_total", outcome="moved") == 1
    assert await ask(three.visit(b"after")) == b"after"
    assert (status.sessions, status.phase) == (1, Phase.CONNECTED)


async def test_t21_a_session_that_cannot_move_and_whose_client_does_not_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old client behind a TLS program of its own: served until it is idle for a while."""
    monkeypatch.setattr(Session, "secure", property(lambda _self: True))
    monkeypatch.setattr(migration, "_BACK_WITHIN", 0.2)
    one, two = world.gateway(), world.gateway()
    peer = OldClient(one.port)
    await peer.send(HELLO)
    await peer.read(24)

    async def visited(stream: int) -> socket.socket:
        visitor = two.visit(b"GET")
        led = encode(Kind.WINDOW_UPDATE, Flag.SYN, stream, 0) + encode(Kind.DATA, 0, stream, 3) + b"GET"
        assert await peer.read(27) == led
        return visitor

    visitors = [await visited(2)]
    with one.stop_accepting():
        draining = asyncio.create_task(one.tunnels.drain())
        assert await peer.read(12) == encode(Kind.GO_AWAY, 0, 0, GoAway.NORMAL)
        await asyncio.sleep(0.4)
        visitors.append(await visited(4))
        for stream, visitor in zip((2, 4), visitors, strict=True):
            await peer.send(encode(Kind.WINDOW_UPDATE, Flag.ACK | Flag.FIN, stream, 0))
            visitor.shutdown(socket.SHUT_WR)
            assert await read_all(visitor) == b""
        assert await peer.ended() == b"".join(encode(Kind.WINDOW_UPDATE, Flag.FIN, stream, 0) for stream in (2, 4))
        async with asyncio.timeout(LIMIT):
            await draining


async def test_a_gateway_that_sends_its_client_away_again_and_again(world: World) -> None:
    """The client comes back slower and slower, and does not keep a session for each time."""
    ended: list[bool] = []

    async def away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(ended)
        ended.append(False)
        writer.write(encode(Kind.GO_AWAY, 0, 0, GoAway.NORMAL))
        await reader.read()
        ended[number] = True

    status = world.client(await world.service(away), 1, backoff=0.01)
    await soon(lambda: len(ended) >= 7 and status.phase is Phase.RETRYING)
    assert status.reason == "the gateway asks for a new session"
    await soon(lambda: ended.count(False) <= 5)


async def test_any_worker_serves_any_visitor(world: World) -> None:
    one, two = world.gateway(), world.gateway()
    world.client(one, await world.service())
    assert await ask(two.visit(b"hello"), b" there") == b"hello there"
    assert (two.ends, one.ends) == (["handed_over"], ["closed"])


async def test_the_newest_client_wins_across_workers(world: World) -> None:
    one, two = world.gateway(), world.gateway()
    old = OldClient(one.port)
    await old.send(HELLO)
    await old.read(24)
    world.client(two, await world.service())
    assert await old.ended() == b""
    assert await ask(one.visit(b"hello")) == b"hello"


async def test_a_worker_that_dies_takes_only_its_own_with_it(world: World) -> None:
    one, two = world.gateway(tunnel_grace=0.3), world.gateway(tunnel_grace=0.3)
    listening = one.stop_accepting()
    world.client(two, await world.service())
    assert await ask(one.visit(b"x")) == b"x"
    two.close()
    world.gateways.remove(two)
    await soon(lambda: not one.tunnels._links._links)
    assert await ask(one.visit(b"x")) == NO_TUNNEL
    listening.close()


async def test_a_visitor_who_leaves_stops_the_service(world: World) -> None:
    """However he leaves: what keeps coming for him is answered with a reset."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        except ConnectionError:
            stopped.append(True)

    stopped: list[bool] = []
    gateway = world.gateway()
    status = world.client(gateway, await world.service(flood))
    for _ in range(10):
        visitor = gateway.visit()
        assert await asyncio.get_running_loop().sock_recv(visitor, 1000)
        visitor.close()
    await soon(lambda: len(stopped) == 10)
    await soon(lambda: (status.active, len(gateway.ends)) == (0, 10))
    assert set(gateway.ends) == {"reset"}
