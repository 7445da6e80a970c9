"""Settings of the DNS plane: ``[dns]``, its cookies, rate limits, transfers and notifications."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tfgateway.settings.section import Seconds, Section, Workers

DnsText = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,100}\Z")]
"""Printable ASCII."""


Mailbox = Annotated[
    str, msgspec.Meta(pattern=r"^([A-Za-z0-9._+-]{1,63}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,7})?\Z")
]
"""A mail address; the part before the @ becomes one label (RFC 1035 §8)."""


ManagedRecord = Annotated[
    str, msgspec.Meta(pattern=r"^([A-Za-z0-9_-]{1,63} )?(A|AAAA|CAA|CNAME|HTTPS|MX|PTR|SRV|SSHFP|SVCB|TLSA|TXT)\Z")
]
"""A type of records, or a first label and a type."""


class CookieSettings(Section, frozen=True):
    """[dns.cookies]: DNS cookies (RFC 7873), with secrets from ``dns.secrets``."""

    enabled: bool = True
    """Make and check cookies."""
    required: bool = False
    """Over UDP, answer only clients with a valid cookie; others have to fetch one first, or to use TCP."""


PerSecond = Annotated[float, msgspec.Meta(ge=0)]


class RateSettings(Section, frozen=True):
    """[dns.rate_limit]: responses a second over UDP to one network, of all workers together. 0: not limited."""

    mode: Literal["on", "log", "off"] = "on"
    """``log``: everything is answered; log and metrics show what would not have been."""
    responses: PerSecond = 50
    """With records of one name; of names that a wildcard makes: of one zone. Each worker has its part of this and the
    following limits, and queries from one port get that of one worker."""
    nodata: PerSecond = 50
    """Without records, about one name."""
    nxdomains: PerSecond = 50
    """About one zone."""
    referrals: PerSecond = 50
    """To one delegation."""
    errors: PerSecond = 20
    """REFUSED, FORMERR and the like."""
    all: PerSecond = 0
    """Of all kinds, about whatever. A network of busy resolvers may ask for much."""
    slip: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    """Each n-th response too many is sent truncated, so that a real client asks again over TCP. 0: none."""
    window: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 15
    """Seconds that a flood must have ended for its network to be answered again at the longest."""
    ipv4_prefix: Annotated[int, msgspec.Meta(ge=8, le=32)] = 24
    """Bits of an IPv4 address that make one network."""
    ipv6_prefix: Annotated[int, msgspec.Meta(ge=16, le=128)] = 56
    """Bits of an IPv6 address that make one network."""
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks (CIDR) that are not limited."""
    table_size: Annotated[int, msgspec.Meta(ge=100, le=10_000_000)] = 50_000
    """(network, name) pairs that a worker remembers: about 300 bytes each."""


class TransferSettings(Section, frozen=True):
    """[[dns.transfer]]: networks and keys that may copy zones (AXFR, over TCP)."""

    network: str
    """CIDR."""
    key: str = ""
    """Name of the TSIG key in ``dns.secrets`` that requests have to be signed with; empty: none."""


class NotifySettings(Section, frozen=True):
    """[[dns.notify]]: a secondary that is notified when a zone has changed (RFC 1996)."""

    address: str
    """ADDRESS:PORT."""
    key: str = ""
    """Name of the TSIG key in ``dns.secrets`` for these messages; empty: they are not signed."""


class UpdateSettings(Section, frozen=True):
    """[dns.updates]: records that users make by DNS updates (RFC 2136), signed with their ``reserve dns-key``."""

    enabled: bool = True
    """Accept DNS updates. Records that were made stay when this is off."""
    managed: tuple[ManagedRecord, ...] = ("_acme-challenge TXT", "CAA", "HTTPS")
    """What a user may have at and below a subdomain in a managed domain: a type, or a first label and a type. Empty:
    nothing. In a delegated domain users may have all of these types, CNAME below its apex alone."""
    delegations: bool = False
    """Allow NS and DS below the apex of a delegated domain."""
    max_records_per_user: Annotated[int, msgspec.Meta(ge=0)] = 500
    """Records that one user may make on this gateway ..."""
    max_bytes_per_user: Annotated[int, msgspec.Meta(ge=0)] = 65_536
    """... and their bytes with names and data."""
    socket: str = "/run/tfgateway/updates.sock"
    """Path of the socket on which the DNS plane hands updates to the reconciler."""


class DnsSettings(Section, frozen=True):
    """[dns]: the authoritative DNS server."""

    workers: Workers = 0
    """Processes; 0: half as many as processors, but at least two: one answers for another that is silent or gone.

    Each takes 32 MB, and 220 MB more for a million names; twice that during a reload.
    """
    listen: tuple[str, ...] = ("0.0.0.0:53", "[::]:53")
    """``ADDRESS:PORT`` of the sockets, each for UDP and TCP."""
    ttl: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 300
    """Ceiling and default of served TTLs, seconds."""
    rname: Mailbox = ""
    """Mailbox of who is responsible for the zones that have no SOA of their own, as ``admin@example.net``; empty:
    ``hostmaster`` in each zone, which receives no mail."""
    serve_stale: Seconds = 86400.0
    """Seconds for which the last known zones are served while redis is away; then SERVFAIL."""
    udp_size: Annotated[int, msgspec.Meta(ge=512, le=4096)] = 1232
    """Bytes of UDP payload that are sent at most: what passes everywhere unfragmented (RFC 9715)."""
    secrets: str = ""
    """Path of a TOML file with what must stay secret (see ``dns.secrets``); empty: there is none."""
    cookies: CookieSettings = CookieSettings()
    rate_limit: RateSettings = RateSettings()
    transfer: tuple[TransferSettings, ...] = ()
    """Networks and keys that may copy zones; empty: none (D-10)."""
    notify: tuple[NotifySettings, ...] = ()
    updates: UpdateSettings = UpdateSettings()
    nsid: DnsText = ""
    """The name server identifier (NSID) for clients that ask for it (RFC 5001); empty: none."""
    chaos_id: DnsText = ""
    """Answers ``id.server`` and ``hostname.bind`` in class CHAOS; empty: REFUSED."""
    chaos_version: DnsText = ""
    """Answers ``version.server`` and ``version.bind`` in class CHAOS; empty: REFUSED."""
    tcp_idle: Seconds = 10.0
    """Seconds until an idle connection is closed; a tenth of it when more than half of ``tcp_connections`` exist."""
    tcp_connections: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Open TCP connections at most; above, one of the network that has most gives way to a new one, idle ones first."""
    tcp_connections_per_client: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Of them, those of one IPv4 address or IPv6 /64 in each worker: the kernel spreads connections over workers by
    chance, and so many are never refused."""
    key_prefix: str = ""
    """Text before a zone's name in its redis key; ``prefix`` of the old DNS server."""
    key_suffix: str = ""
    """Text after a zone's name in its redis key; ``suffix`` of the old DNS server."""
    metrics: str = "127.0.0.1:9154"
    """``ADDRESS:PORT`` of the DNS plane's metrics page."""
