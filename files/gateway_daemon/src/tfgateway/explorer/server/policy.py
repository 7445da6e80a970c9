"""Settings and limits of the explorer."""

from __future__ import annotations

from dataclasses import dataclass

from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.urls import PublicUrl


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorerPolicy:
    """Settings of one explorer; times in seconds, sizes in bytes."""

    registration: RegistrationMode | None = None
    """Who may register what; None: what is recorded in the database, which for a new one is ``closed``."""
    validate_workloads: bool = True
    """Refuse at creation what a gateway would refuse; off, the gateway answers with an error result."""
    owner_resolver: str = ""
    """``ADDRESS:PORT`` of the resolver that is asked for a new gateway's ``__owner__`` records; empty: no check."""
    require_key_proof: bool = False
    """Register only users who prove possession of their key (E-4), however open registration is."""
    clock_skew: float = 300.0
    """How far a signed request's time may be from ours (E-2)."""
    public_url: PublicUrl | None = None
    """What clients sign when a reverse proxy rewrites path or host; None: what arrives here."""
    require_bound_signatures: bool = False
    """Refuse signatures that are good for more than one request (E-2): those of other clients than ours."""
    max_wait: float = 60.0
    """Longest time that a poll may ask to wait."""
    drain: float = 0.0
    """How long requests are still served, and readiness denied, before it stops."""
    max_waiting: int = 10_000
    """Polls that wait at one time; beyond, those of the client that has most are answered early."""
    max_connections: int = 12_000
    """At one time, and no more than the process may have descriptors; beyond, one of the client that has most ends."""
    max_memory: int = 32 * 1024 * 1024
    """For requests that are not answered and answers that are not taken, estimated; beyond, as for connections."""
    max_head: int = 32 * 1024
    """Of the headers of one request, together."""
    max_body: int = 64 * 1024
    """Of a request. A page of the largest workloads must stay readable: gateways bound what they read, and so do we."""
    body_timeout: float = 30.0
    """For the whole body of a request (E-12)."""
    idle_timeout: float = 75.0
    """For the next request on a connection, and for the first (E-12)."""
    read_timeout: float = 60.0
    """For a client that takes nothing of an answer: it is not kept in memory for longer (E-12)."""
    max_metadata: int = 1024
    max_nodes: int = 100
    """Gateways of one pool."""
    max_admitted: int = 1000
    """Gateways that one farm admits."""
    max_addresses: int = 100
    """Addresses of one subdomain."""
    page: int = 100
    max_page: int = 1000
    poll_page: int = 200
