"""At which ports an SSH server greets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._ssh import answering

from tests.support.ports import free_port

GREETING = b"SSH-2.0-OpenSSH_9.2p1\r\n"


class Server:
    """Answers every connection on loopback with these parts of a greeting, and then says no more."""

    def __init__(self, *parts: bytes, port: int = 0) -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self.listener.getsockname()[1]
        self.visits = 0
        self._parts = parts
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:  # closed: the test is over
                return
            self.visits += 1
            self._open.append(link)
            with contextlib.suppress(OSError):  # who asks has gone away
                for part in self._parts:
                    link.sendall(part)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for link in [self.listener, *self._open]:
            link.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """``serve(part, ..., port=any)``: a server that ends with the test."""
    servers: list[Server] = []

    def start(*parts: bytes, port: int = 0) -> Server:
        servers.append(Server(*parts, port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ask(*ports: int, timeout: float, enough: int = 0) -> list[int]:
    return answering("127.0.0.1", list(ports), timeout, enough)


def test_those_that_greet_are_named_in_the_order_of_the_question(serve: Callable[..., Server]) -> None:
    first, second = serve(GREETING), serve(b"a notice\r\nSS", b"H-2.0-other\r\n")
    silent, other, nobody = serve(), serve(b"220 mail.example ESMTP\r\nHELP SSH-2.0\r\n"), free_port()
    ports = [second.port, silent.port, nobody, other.port, first.port, first.port]
    assert ask(*ports, timeout=1) == [second.port, first.port]


def test_a_preferred_port_that_answers_is_enough(serve: Callable[..., Server]) -> None:
    preferred, other = serve(GREETING), serve(GREETING)
    assert ask(preferred.port, other.port, timeout=60, enough=1) == [preferred.port]
    assert other.visits == 0


def test_the_next_one_is_enough_when_the_preferred_one_is_refused(serve: Callable[..., Server]) -> None:
    began = time.monotonic()
    other = serve(GREETING)
    assert ask(free_port(), other.port, timeout=3600, enough=1) == [other.port]
    assert time.monotonic() - began < 3600


def test_it_waits_for_one_that_is_not_up_yet(serve: Callable[..., Server]) -> None:
    port = free_port()
    later = threading.Timer(0.3, lambda: serve(GREETING, port=port))
    later.start()
    found = ask(port, timeout=60)
    later.join()
    assert found == [port]


def test_a_notice_without_end_is_given_up(serve: Callable[..., Server]) -> None:
    endless = serve(b"notice\r\n" * 20_000, GREETING)
    assert ask(endless.port, timeout=1) == []
