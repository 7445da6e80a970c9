"""The two kinds of traffic."""

from __future__ import annotations

from enum import StrEnum


class Plane(StrEnum):
    """What kind of traffic a connection carries: it chooses between the two ports of a service."""

    HTTP = "http"
    TLS = "tls"


HTTP, TLS = Plane.HTTP, Plane.TLS
"""For where it counts: looking a member up in its class takes longer than a system call."""
