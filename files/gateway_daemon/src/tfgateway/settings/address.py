"""Parses addresses in the settings."""

from __future__ import annotations

import ipaddress


def host_port(text: str) -> tuple[str, int]:
    """``"0.0.0.0:53"`` or ``"[::]:53"`` to (IP literal, port). Errors: ``ValueError`` that says the wanted form."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    wrong = ValueError(f"'{text}' is not ADDRESS:PORT (IPv6 in brackets)")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise wrong from None
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise wrong
    if (address.version == 6) != host.startswith("["):
        raise wrong
    return bare, int(port)
