"""TLS over a non-blocking socket, which a ``Wire`` takes (T-21)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

from tfgateway.errors import ConfigError
from tfgateway.net.sockets import close


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer. Errors: ``ConfigError`` that names the files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise ConfigError(f"proxy.tunnel_certificate, tunnel_key: {certificate}, {key}: {reason}") from error
    return context


async def secure(sock: socket.socket, context: ssl.SSLContext, server_name: str | None) -> ssl.SSLSocket:
    """TLS over ``sock``, which the result replaces; as a client with ``server_name``, as a server without.

    Errors: ``OSError`` (``ssl.SSLError`` among them); the socket is closed then. Time-outs are the caller's.
    """
    try:
        wrapped = context.wrap_socket(
            sock, server_side=server_name is None, server_hostname=server_name, do_handshake_on_connect=False
        )
    except BaseException:
        close(sock)
        raise
    loop = asyncio.get_running_loop()
    try:
        while True:
            ready = loop.create_future()
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                loop.add_reader(wrapped.fileno(), _notify, ready)
            except ssl.SSLWantWriteError:
                loop.add_writer(wrapped.fileno(), _notify, ready)
            else:
                return wrapped
            try:
                await ready
            finally:
                loop.remove_reader(wrapped.fileno())
                loop.remove_writer(wrapped.fileno())
    except BaseException:
        close(wrapped)
        raise


def _notify(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
