"""Between a process and its redis: to look at what is written, and to be in the way."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable

_COMMAND = re.compile(rb"(?=\*\d+\r\n\$\d+\r\n)")
_WRITE = re.compile(rb"\r\n(EVALSHA|EVAL|SET|HDEL|DEL)\r\n")


class Cut(Exception):
    """Nothing that is asked for is done any more."""


class Relay:
    """Tells ``step`` of each write, before redis gets it and after it has answered. late: seconds, of each reply."""

    def __init__(self, target: int, step: Callable[[str], None] = lambda _what: None, late: float = 0) -> None:
        self._target = target
        self._step = step
        self._late = late
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                writing: list[str] = []
                for source, sink, pump in ((client, server, self._ask), (server, client, self._reply)):
                    threading.Thread(target=self._pump, args=(source, sink, pump, writing), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, tell: Callable[[bytes, list[str]], None], writing: list[str]
    ) -> None:
        source_is_client = tell == self._ask
        with contextlib.suppress(OSError, Cut):
            while data := source.recv(1 << 20):
                for part in _COMMAND.split(data) if source_is_client else [data]:
                    # The next command when redis has answered the one before, however many were sent together.
                    while source_is_client and writing:
                        time.sleep(0.0005)
                    tell(part, writing)
                    sink.sendall(part)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _ask(self, data: bytes, writing: list[str]) -> None:
        if found := _WRITE.search(data):
            self._step(f"before {found[1].decode()}")
            writing.append(found[1].decode())

    def _reply(self, _data: bytes, writing: list[str]) -> None:
        time.sleep(self._late)
        if writing:
            self._step(f"after {writing.pop()}")
