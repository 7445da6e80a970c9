"""What a gateway says to its clients: to ours in words, to old ones nothing that they would notice."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.tunnel.client.model import Phase
from tfgateway.tunnel.gateway.takeovers import Takeovers
from tfgateway.tunnel.notices import Notice, NoticeParser, Outcome, encode_notice
from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.yamux.connection import Role, StreamOpened, YamuxConnection
from tfgateway.tunnel.yamux.extensions import NONE, Extension, decode_extensions, encode_extensions
from tfgateway.tunnel.yamux.windows import INITIAL_WINDOW, WindowBudget

from tests.support.waiting import soon

from .conftest import SECRET, World, ask
from .test_connection import heard, sent
from .test_tunnels import HELLO, OldClient


def test_vectors_of_a_registration_that_asks_for_notices() -> None:
    """The unmodified trs and trc take these bytes: they add the length to a send window, which is not used."""
    side = YamuxConnection(Role.CLIENT, max_streams=1, budget=WindowBudget(0))
    assert side.open(Extension.NOTICES | Extension.PASS_ON) == 1
    assert side.outgoing == [bytes.fromhex("000100010000000154460005")]


def test_extensions_are_no_credit_and_credit_is_no_extension() -> None:
    side = YamuxConnection(Role.SERVER, max_streams=2, budget=WindowBudget(0))
    assert heard(side, bytes.fromhex("00010001000000015446ffff")) == [
        StreamOpened(1, Extension.NOTICES | Extension.ADDRESS | Extension.PASS_ON)
    ]
    assert side.window(1) == INITIAL_WINDOW
    assert heard(side, bytes.fromhex("000100010000000300010000")) == [StreamOpened(3)]
    assert side.window(3) == INITIAL_WINDOW + 0x10000
    assert sent(side) == b""


@given(st.integers(0, 2**32 - 1))
def test_every_length_is_extensions_or_credit(length: int) -> None:
    extensions, credit = decode_extensions(length)
    assert not extensions or not credit
    assert credit in (0, length)
    if extensions:
        assert decode_extensions(encode_extensions(extensions)) == (extensions, 0)
    assert encode_extensions(NONE) == 0


notices = st.builds(Notice, st.sampled_from(Outcome), st.sampled_from(["", "192.0.2.7", "2001:db8::1"]))


@given(st.lists(notices, max_size=5), st.integers(1, 40))
def test_notices_arrive_in_any_pieces(said: list[Notice], step: int) -> None:
    data = b"".join(map(encode_notice, said))
    parser = NoticeParser()
    found = [notice for start in range(0, len(data), step) for notice in parser.feed(data[start : start + step])]
    assert found == said


@given(st.lists(st.binary(max_size=30) | st.just(b"\n") | st.just(b'{"outcome":'), max_size=10))
def test_garbage_is_notices_or_an_error(pieces: list[bytes]) -> None:
    parser = NoticeParser()
    try:
        for piece in pieces:
            parser.feed(piece)
    except ParseError:
        pass


@pytest.mark.parametrize("line", [b"x" * 2000, b"[]\n", b"nonsense\n", b"[" * 1000 + b"\n"])
def test_what_is_no_notice(line: bytes) -> None:
    with pytest.raises(ParseError):
        NoticeParser().feed(line)


@pytest.mark.parametrize(
    "line", [b'{"outcome": "later"}\n', b'{"outcome": "replaced", "source": 7}\n', b'{"outcome": []}\n']
)
def test_notices_of_newer_gateways_are_skipped(line: bytes) -> None:
    assert NoticeParser().feed(line + encode_notice(Notice(Outcome.REVOKED))) == [Notice(Outcome.REVOKED)]


async def test_a_client_of_ours_is_told_and_an_old_one_sees_what_it_always_saw(world: World) -> None:
    gateway = world.gateway()
    status = world.client(gateway, await world.service())
    await soon(lambda: status.phase is Phase.CONNECTED)
    assert status.outcome is Outcome.REGISTERED
    assert await ask(gateway.visit(b"x")) == b"x"
    old = OldClient(gateway.port)
    await old.send(HELLO)
    assert (await old.read(24)).hex() == "000100020000000100000000000100040000000100000000"
    await soon(lambda: status.phase is Phase.RETRYING and status.outcome is Outcome.REPLACED)
    assert status.reason == "another client has registered with this secret: from 127.0.0.1"
    assert await old.ended() == b""  # ours has taken it back
    assert status.replaced == 1


@pytest.mark.parametrize("outcome", [Outcome.REVOKED, Outcome.UNKNOWN, Outcome.CROWDED])
async def test_a_client_is_told_why_it_is_refused(world: World, outcome: Outcome) -> None:
    early = 0 if outcome is Outcome.CROWDED else 4
    gateway = world.gateway(tunnel_unknown=early, tunnel_unknown_time=0.3)
    if outcome is Outcome.CROWDED:
        gateway.tunnels._failures._burst = 10.0
    secret = SECRET if outcome is Outcome.REVOKED else b"7:nobodys"
    status = world.client(gateway, await world.service(), secret=secret, once=True)
    if outcome is Outcome.REVOKED:
        await soon(lambda: status.phase is Phase.CONNECTED)
        gateway.tunnels.remove_secret(SECRET)
    await soon(lambda: status.phase is Phase.ENDED)
    assert (status.outcome, status.reason) == (outcome, Notice(outcome).reason)


async def test_a_session_that_ends_otherwise_has_its_own_reason(world: World) -> None:
    gateway = world.gateway()
    status = world.client(gateway, await world.service(), once=True)
    await soon(lambda: status.phase is Phase.CONNECTED)
    gateway.close()
    await soon(lambda: status.phase is Phase.ENDED)
    assert (status.outcome, status.reason) == (Outcome.REGISTERED, "closed by the peer")


async def test_clients_that_take_a_secret_from_each_other_are_named(world: World) -> None:
    one, two = world.gateway(), world.gateway()  # workers announce their clients to each other
    port = await world.service()
    with structlog.testing.capture_logs() as logs:
        first = world.client(one, port)
        await soon(lambda: first.phase is Phase.CONNECTED)
        second = world.client(two, port)
        await soon(lambda: min(first.replaced, second.replaced) >= 4)
    said = [line for line in logs if line["log_level"] == "warning"]
    assert said
    assert all(line["sources"] == ["127.0.0.1", "127.0.0.1"] for line in said)
    assert {line["event"].partition(":")[0] for line in said} == {"clients take a tunnel's secret from each other"}
    assert one.metric("tfgateway_tunnel_takeovers_total") + two.metric("tfgateway_tunnel_takeovers_total") >= 8
    await soon(lambda: any("times by now: each client needs its own" in status.reason for status in (first, second)))


def test_a_client_that_reconnects_now_and_then_takes_nothing_from_another() -> None:
    takeovers = Takeovers()
    assert [takeovers.add(b"digest", 200.0 * number) for number in range(20)] == [False] * 20
    assert [takeovers.add(b"other", number) for number in range(9)] == [False, False, False, True] * 2 + [False]


async def test_a_session_with_notices_moves_to_another_worker(world: World) -> None:
    old = world.gateway()
    status = world.client(old, await world.service())
    await soon(lambda: status.phase is Phase.CONNECTED)
    new = world.gateway(listening=old.stop_accepting())
    async with asyncio.timeout(20):
        await old.tunnels.drain()
    old.close()
    assert await ask(new.visit(b"x")) == b"x"
    new.tunnels.remove_secret(SECRET)
    await soon(lambda: status.outcome is Outcome.REVOKED)
    assert status.sessions == 1


async def test_the_registration_counts_as_no_visitor(world: World) -> None:
    gateway = world.gateway(limits=SessionLimits(streams=1))
    world.client(gateway, await world.service())
    assert await ask(gateway.visit(b"x")) == b"x"
