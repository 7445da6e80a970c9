"""People who keep visiting a page while something else happens, and what they have to say about it."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_TIMEOUT = 20.0  # seconds for one visit
_PAUSE = 0.01  # seconds between two: each leaves a port in TIME_WAIT for a minute, and there are 28 000


@dataclass
class Visits:
    """How it went so far."""

    done: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.done} visits, {len(self.failures)} failed"


@contextlib.contextmanager
def visiting(address: str, name: str, certificate: str) -> Iterator[Visits]:
    """Visit ``name`` at the gateway with this address, over HTTP and HTTPS beside each other, a connection a visit."""
    visits = Visits()
    stop = threading.Event()
    context = ssl.create_default_context(cafile=certificate)
    ways: list[tuple[str, Callable[[], http.client.HTTPConnection]]] = [
        ("http", lambda: http.client.HTTPConnection(address, timeout=_TIMEOUT)),
        ("https", lambda: _Named(address, name, context)),
    ]

    def visit(scheme: str, connect: Callable[[], http.client.HTTPConnection]) -> None:
        while not stop.is_set():
            try:
                with contextlib.closing(connect()) as connection:
                    connection.request("GET", "/", headers={"Host": name})
                    answer = connection.getresponse()
                    body = answer.read().decode(errors="replace").strip()
                if answer.status != 200 or not body.endswith(f"{scheme}://{name}/"):
                    visits.failures.append(f"{scheme}: {answer.status} {body[:100]}")
            except (OSError, http.client.HTTPException) as error:
                visits.failures.append(f"{scheme}: {error!r}")
            visits.done += 1
            stop.wait(_PAUSE)

    threads = [threading.Thread(target=visit, args=way, daemon=True) for way in ways]
    for thread in threads:
        thread.start()
    try:
        yield visits
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class _Named(http.client.HTTPSConnection):
    """To an address, with the name that the certificate is for."""

    def __init__(self, address: str, name: str, context: ssl.SSLContext) -> None:
        super().__init__(address, timeout=_TIMEOUT, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)
