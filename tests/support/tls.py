"""The first flight of TLS clients, as OpenSSL sends it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import pytest


def client_hello(name: str | None, protocols: Sequence[str] = (), *, tls12: bool = False) -> bytes:
    """name: of the server, None: none is sent; protocols: for ALPN; tls12: TLS 1.3 is not offered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if protocols:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
