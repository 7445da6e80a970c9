"""The tables that are about the gateway as a whole, and those of the reconciler and 4to6."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from tfgateway.settings.section import Port, Seconds, Section


class IdentitySettings(Section, frozen=True):
    """[identity]: who this gateway is."""

    seed: str = "/etc/identity.seed"
    """Path of the seed file (versions 1.0.0, 1.1.0 or raw)."""


class RedisSettings(Section, frozen=True):
    """[redis]: where the gateway keeps its data."""

    url: str = "redis://127.0.0.1:6379/0"
    """``redis://``, ``rediss://`` or ``unix://``; the old daemon's ``tcp://host:port`` is understood too."""
    secrets: str = "/etc/tfredis"
    """Directory with the passwords of redis' users, a file each (``dns.secret``): for a ``unix://`` url without a
    login."""
    sentinels: tuple[str, ...] = ()
    """``host:port`` of Sentinels; ``sentinel_service`` names the master, ``url`` gives database and login."""
    sentinel_service: str = "tfgateway"
    """Name under which the Sentinels know the master."""
    replica: str = ""
    """``redis://``, ``rediss://`` or ``unix://`` of this node's own redis, in a group of gateways whose redis is
    replicated: the data planes read it, while all that is written goes to the master that ``sentinels`` name.
    Empty: this gateway is in no group."""
    timeout: Seconds = 5.0
    """Seconds for connecting and for each reply."""
    implausible: Literal["hold", "follow"] = "hold"
    """What the data planes do when redis answers, but lost its data, or has older ones or another gateway's: ``hold``
    what they know until the reconciler has written everything again, or ``follow`` redis."""
    implausible_for: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds for which ``hold`` lasts at most; redis is followed then. 0: no limit. While redis is away,
    ``dns.serve_stale`` counts instead."""

    @property
    def hold_for(self) -> float:
        """Seconds for which an implausible redis is not followed."""
        return (self.implausible_for or math.inf) if self.implausible == "hold" else 0.0


class ExplorerSettings(Section, frozen=True):
    """[explorer]: the API that reservations come from."""

    url: str = "https://explorer.grid.tf/api/v1"
    """Base URL of the explorer's API."""
    timeout: Seconds = 15.0
    """Seconds for one request, long polling excluded."""
    poll_interval: Seconds = 10.0
    """Seconds between two polls that find nothing new, and between two checks of redis."""
    long_poll: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """Seconds that the explorer may hold a poll back until something changes; old ones ignore it. 0: never."""
    pin: bool = True
    """Have the explorer accept only those signatures of this gateway that are good for one request, once it offers
    that: it has seen no others for 30 days, or ever. Before an older program takes over, ``tfgateway identity unpin``
    takes it back."""
    max_answer: Annotated[int, msgspec.Meta(ge=1024)] = 16 * 1024 * 1024
    """Bytes of one answer that are read at most."""


class LocationSettings(Section, frozen=True):
    """[gateway.location]: what is published in the explorer's directory."""

    city: str = "Unknown"
    """Name of the city."""
    country: str = "Unknown"
    """Name of the country."""
    continent: str = "Unknown"
    """Name of the continent."""
    latitude: float = 0.0
    """Degrees north."""
    longitude: float = 0.0
    """Degrees east."""


Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}\Z")]
"""One label of a domain name; internationalised ones as A-labels."""
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\Z")]
"""A domain name of one label or more, without a final dot; internationalised labels as A-labels."""


class GatewaySettings(Section, frozen=True):
    """[gateway]: what this node is."""

    farm_id: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Id of the farm that this gateway belongs to."""
    name_servers: tuple[str, ...] = ()
    """Names published as ``dns_nameserver``; the first is the MNAME of zones without a SOA."""
    managed_domains: tuple[str, ...] = ()
    """Zones in which any user may reserve names, without a final dot."""
    reserved_names: tuple[Label, ...] = (
        "autoconfig",
        "autodiscover",
        "enterpriseenrollment",
        "enterpriseregistration",
        "isatap",
        "localhost",
        "lyncdiscover",
        "mta-sts",
        "openpgpkey",
        "wpad",
    )
    """Labels that no user may claim directly below a managed domain: programs ask for them by themselves, and believe
    what they get. They are free below a user's own subdomain; what was granted once stays (P-6)."""
    blocked_names: tuple[Name, ...] = ()
    """Domain names, without a final dot, that no user may claim, nor anything below them; what was granted once stays
    (P-6)."""
    public_addresses: tuple[str, ...] = ()
    """IP addresses that lead to this gateway though no interface has them (1:1 NAT): no tenant's target (T-15)."""
    proof: Literal["off", "dns"] = "off"
    """``dns``: a proxy outside the managed domains and its user's own delegated ones needs a proof: a CNAME, A or AAAA
    record that leads to this gateway, or the TXT record that ``tfgateway reserve proof`` prints. One that is proved
    displaces another user's that is not, and a TXT record outweighs an address."""
    proof_timeout: Annotated[float, msgspec.Meta(gt=0)] = 604_800.0
    """Seconds after which a proxy ends for which DNS says, at their beginning and end, that there is no proof."""
    free_to_use: bool = False
    """Published in the explorer's directory."""
    tcp_client_port: Port = 18000
    """TCP port for tunnel clients that is published in the explorer's directory."""
    location: LocationSettings = LocationSettings()
    """Without it, what ``geoip`` says."""
    geoip: str = ""
    """URL of a GeoIP service that is asked when no location is configured; empty: none."""


class ReconcilerSettings(Section, frozen=True):
    """[reconciler]: limits and intervals."""

    max_removal_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
    """The removals of a plan are held back when more than this share of the reservations of the last hour would be gone
    ..."""
    max_removal_count: Annotated[int, msgspec.Meta(ge=0)] = 10
    """... unless that is no more than this many."""
    repair_orphans: bool = False
    """Remove zones, subdomains, proxy entries and unreadable records behind which there is no reservation (P-5, P-12);
    they are reported as problems in any case."""
    max_reservations_per_user: Annotated[int, msgspec.Meta(ge=0)] = 1000
    """Reservations of one user on this gateway, of all types; what was granted once stays (P-26)."""
    max_zones_per_user: Annotated[int, msgspec.Meta(ge=0)] = 100
    """Delegated domains among them."""
    max_addresses: Annotated[int, msgspec.Meta(ge=0)] = 100
    """Addresses of one subdomain reservation."""
    parent_timeout: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    """Seconds that a subdomain waits for its domain to be delegated (again) until it is refused; 0: none."""
    resync_interval: Seconds = 3600.0
    """Seconds between two complete listings of the explorer."""
    lease: Annotated[float, msgspec.Meta(ge=1)] | None = None
    """Seconds after which another reconciler may take over from one that went silent: by default 30, in a group of
    gateways (``redis.replica``) 5."""
    metrics: str = "127.0.0.1:9153"
    """``ADDRESS:PORT`` of the reconciler's metrics page."""


class WorkersSettings(Section, frozen=True):
    """[workers]: the processes of the data planes dns and proxy."""

    start_timeout: Seconds = 120.0
    """Seconds for the new workers of a reload to become ready; then the reload has failed and the old ones go on."""
    hang_timeout: Seconds = 30.0
    """Seconds of silence after which a worker is replaced."""
    address_timeout: Seconds = 30.0
    """Seconds that a start waits, once everything is loaded, for an address that another process has."""


class FourToSixSettings(Section, frozen=True):
    """[fourtosix]: IPv6 over WireGuard."""

    endpoint: str = ""
    """``HOST:PORT`` that users connect to (IPv6 in brackets); empty: this gateway gives no IPv6."""
    interface: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}\Z")] = "wg-tfgateway"
    """Name of the WireGuard interface."""
    listen_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 3443
    """UDP port."""
    private_key: Literal["seed", "derived"] = "seed"
    """``seed``: the seed itself, as users of the old gateway know it: the interface then holds the seed.
    ``derived``: one that reveals nothing about the seed (C-3). Changing it changes every user's configuration."""
    metrics: str = "127.0.0.1:9156"
    """``ADDRESS:PORT`` of the 4to6 plane's metrics page."""


class LogSettings(Section, frozen=True):
    """[log]: what is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe events that are logged."""
    format: Literal["json", "console"] = "json"
    """``json``: an object a line. ``console``: for a person at a terminal."""
