"""Batches of datagrams on real sockets: each reply goes to who asked, from where it was asked; silence is left out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import structlog.testing
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.fast_path import FastPath
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import Reply
from tfgateway.dns.server.batch import SIZE
from tfgateway.dns.server.sockets import prepare_udp
from tfgateway.dns.server.udp import UdpListener
from tfgateway.dns.zones.zones import Zones
from tfgateway.telemetry.logs import logger


class Server:
    """Repeats what it is sent, in capitals, through the slow path; silent to what begins with a minus."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.setblocking(False)
        prepare_udp(self.socket, 1232)
        self.port = self.socket.getsockname()[1]
        self.counts = QueryCounters()
        self.asked: list[tuple[bytes, bytes]] = []
        hot = FastPath(Zones(), ServerOptions(), None, self.slow, self.counts)
        self.listener = UdpListener(self.socket, hot, self.counts, logger("dns"))

    def slow(self, message: bytes, client: bytes) -> Reply | None:
        self.asked.append((message, client))
        return None if message.startswith(b"-") else Reply(message.upper(), opt_size=0, bucket=0, proven=False)

    def answer(self) -> None:
        self.listener._drain()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def client(stack: ExitStack, address: str, port: int) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM))
    sock.settimeout(10)
    sock.connect((address, port))  # hears nothing from another address
    return sock


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1", "127.0.0.5", "127.7.7.7"]),
        ("::1", ["::1"]),
        ("::", ["::1"]),
    ],
)
def test_replies_go_to_who_asked_from_where_they_asked(stack: ExitStack, listen: str, asked: list[str]) -> None:
    server = Server(listen)
    stack.enter_context(server.socket)
    clients = [client(stack, address, server.port) for address in asked for _ in range(7)]
    for turn in range(3):  # memory is used again
        for number, sock in enumerate(clients):
            sock.send(b"%s%d of turn %d%s" % (b"-" if number % 3 == turn else b"q", number, turn, b"x" * number * 50))
        server.answer()
        for number, sock in enumerate(clients):
            if number % 3 != turn:
                assert sock.recv(4096) == b"Q%d OF TURN %d%s" % (number, turn, b"X" * number * 50)
    for sock in clients:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
    family = clients[0].family
    assert {address for _, address in server.asked} == {
        socket.inet_pton(family, sock.getsockname()[0]) for sock in clients
    }
    assert not server.counts.drops
    assert len(server.counts.latency) == 3 * len(clients)


def test_more_than_a_batch_is_answered_in_one_turn(stack: ExitStack) -> None:
    server = Server("127.0.0.1")
    stack.enter_context(server.socket)
    sock = client(stack, "127.0.0.1", server.port)
    for number in range(2 * SIZE + 5):
        sock.send(b"%d" % number)
    server.answer()
    assert [int(sock.recv(100)) for _ in range(2 * SIZE + 5)] == list(range(2 * SIZE + 5))


def test_reply_that_cannot_be_sent_costs_itself_only(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server("127.0.0.1")
    stack.enter_context(server.socket)
    clients = [client(stack, "127.0.0.1", server.port) for _ in range(5)]
    for number, sock in enumerate(clients):
        sock.send(b"%d" % number)
    answer = server.listener._hot.answer

    def spoilt(slots: object, sizes: list[int], now: float, monotonic: int) -> list[int]:
        silent = answer(slots, sizes, now, monotonic)  # type: ignore[arg-type]
        server.listener._batch.replies[2] = 70_000  # no datagram can hold it: EMSGSIZE
        return silent

    monkeypatch.setattr(server.listener._hot, "answer", spoilt)
    server.answer()
    for number in (0, 1, 3, 4):
        assert clients[number].recv(100) == b"%d" % number
    assert server.counts.drops == {("udp", "send"): 1}


def test_error_in_this_program_costs_one_batch(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server("127.0.0.1")
    stack.enter_context(server.socket)
    sock = client(stack, "127.0.0.1", server.port)

    def fails(*_arguments: object) -> list[int]:
        raise RuntimeError("unforeseen")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(server.listener._hot, "answer", fails)
        sock.send(b"first")
        server.answer()
    assert [entry["reason"] for entry in logs] == ["RuntimeError('unforeseen')"]
    assert server.counts.drops == {("udp", "failed"): 1}
    sock.send(b"second")
    server.answer()
    assert sock.recv(100) == b"SECOND"


def test_closed_socket_is_an_error_that_is_counted(stack: ExitStack) -> None:
    server = Server("127.0.0.1")
    server.socket.close()
    server.answer()
    assert server.counts.drops == {("udp", "receive"): 1}
