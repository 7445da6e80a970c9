"""What the benchmark's tunnels lead to: ``GET /COUNT`` is answered with so many octets and the end.

``POST /COUNT`` is answered with one octet when so many have come.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

_CHUNK = memoryview(bytes(1024 * 1024))


def serve(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65536)
            if not received:
                return
            head += received
        method, path = head.split()[:2]
        left = int(path.lstrip(b"/"))
        if method == b"POST":
            left -= len(head.partition(b"\r\n\r\n")[2])
            scratch = bytearray(_CHUNK)
            while left > 0 and (received := connection.recv_into(scratch)):
                left -= received
            connection.send(b"." if not left else b"")
            return
        while left > 0:
            left -= connection.send(_CHUNK[: min(left, len(_CHUNK))])


def main(port: int) -> None:
    """Until killed."""
    with socket.create_server(("127.0.0.1", port), backlog=512) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
