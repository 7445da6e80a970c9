"""Names of redis keys and fields. Keys are compared byte for byte."""

from __future__ import annotations

ZONE_OWNERS = "zone"
"""Hash: zone name without final dot -> owner (``redis_schema.owners``)."""
MANAGED_DOMAINS = "managed_domains"
"""Hash: full subdomain name without final dot -> decimal tid, of managed and of delegated zones."""
RESERVATIONS = "tfgateway_reservations"
"""Hash: gwid -> recorded reservation (``redis_schema.reservations``)."""
OUTBOX = "tfgateway:outbox"
"""Ours: what the explorer has not acknowledged yet. No name ends with a dot, so that none can look like a zone."""
QUARANTINE = "tfgateway:quarantine"
"""Ours: gwid -> recorded reservation that could not be read (P-17), kept when it was replaced."""
WAITING = "tfgateway:waiting"
"""Ours: hash, gwid -> since when a reservation waits for its parent zone (``reconciler.planning.waiting``)."""
PROOFS = "tfgateway:proofs"
"""Ours: hash, gwid -> what DNS proves for a proxy, and since when (``reconciler.planning.proofs``)."""
CONSENT = "tfgateway:consent"
"""Ours: digest of the removals that an operator allowed; expires."""
RELEASED = "tfgateway:released"
"""Ours: set of domains whose claims an operator gave up, until a pass has seen to it; expires."""
RELEASED_RESERVATIONS = "tfgateway:released_reservations"
"""Ours: hash, gwid -> why an operator ends the reservation, until a pass has seen to it; expires."""
SAMPLES = "tfgateway:samples"
"""Ours: how many reservations were recorded over the last hour (``reconciler.planning.inputs.guard``)."""
LOCATION = "tfgateway:location"
"""Ours: what the GeoIP service said last."""
LEASE = "tfgateway:lease"
"""Ours: the process that may write (``reconciler.lease``); expires when its holder does not renew it."""
FENCE = "tfgateway:fence"
"""Ours: the fencing token of the lease, a decimal number that grows whenever the lease is taken."""
STATUS = "tfgateway:status"
"""Ours: what ``tfgateway state`` shows of the reconciler."""
SERIALS = "tfgateway:serials"
"""Ours: hash, key of a zone hash -> serial of its SOA (``redis_schema.serials``); written by the DNS plane only."""
TUNNELS_PREFIX = "tfgateway:tunnels:"
"""Ours: strings, the name of a proxy worker behind it -> its tunnel clients (``redis_schema.tunnels``); expire."""
MARKER = "tfgateway:marker"
"""Ours: which data set redis holds, and how far it has come (``redis_schema.marker``)."""
PEERS = "tfgateway:peers"
"""Ours: hash, decimal tid -> public key of the user's WireGuard peer (``redis_schema.peers``)."""

OWNER_FIELD = "__owner__"
"""Field of a zone hash: the gateway's TXT record about ownership. A zone hash without it was made by an operator."""
APEX_FIELD = "@"
"""Field of a zone hash: records of the zone name itself."""

SERVICE_PREFIX = "/tcprouter/service/"
"""Strings: one slash in front (R-6), then the domain as the user gave it."""

_LONGEST_NAME = 255  # RFC 1035 §2.3.4, and room for nothing else


def zone_key(zone: str) -> str:
    """``"gw1.example"`` -> ``"gw1.example."``: the key of the zone's hash."""
    return zone + "."


def zone_of_key(key: bytes) -> str | None:
    """``b"gw1.example."`` -> ``"gw1.example"``; ``None``: not the key of a zone."""
    if not key.endswith(b".") or len(key) > _LONGEST_NAME:
        return None
    try:
        zone = key[:-1].decode("utf-8")
    except UnicodeDecodeError:
        return None
    return zone if zone and not zone.endswith(".") else None


def service_key(domain: str) -> str:
    """``"web.example"`` -> ``"/tcprouter/service/web.example"``."""
    return SERVICE_PREFIX + domain


def domain_of_service_key(key: bytes) -> str | None:
    """``b"/tcprouter/service/web.example"`` -> ``"web.example"``; ``None``: not a service, or no domain in it (T-8)."""
    prefix = SERVICE_PREFIX.encode("ascii")
    if not key.startswith(prefix) or len(key) > len(prefix) + _LONGEST_NAME:
        return None
    try:
        return key[len(prefix) :].decode("utf-8") or None
    except UnicodeDecodeError:
        return None
