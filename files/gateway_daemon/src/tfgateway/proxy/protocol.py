"""The protocols that visitors speak."""

from __future__ import annotations

from enum import StrEnum


class Protocol(StrEnum):
    """What a connection carries; it chooses between the two ports of a service."""

    HTTP = "http"
    TLS = "tls"


HTTP, TLS = Protocol.HTTP, Protocol.TLS
"""For where it counts: looking a member up in its class takes longer than a system call."""
