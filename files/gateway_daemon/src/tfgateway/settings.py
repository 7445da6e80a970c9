"""Typed settings, read from one ``gateway.toml``. Unknown keys are errors: a typo must not be silence."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tfgateway.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")

DEFAULT_PATH = Path("/etc/tfgateway/gateway.toml")

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
DnsText = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,100}\Z")]
"""Printable ASCII."""


class _Section(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Base of every table of the file."""


class IdentitySettings(_Section, frozen=True):
    """[identity]"""

    seed: str = "/etc/identity.seed"
    """Path of the seed file (versions 1.0.0, 1.1.0 or raw)."""


class RedisSettings(_Section, frozen=True):
    """[redis]"""

    url: str = "redis://127.0.0.1:6379/0"
    """``redis://``, ``rediss://`` or ``unix://``; the old daemon's ``tcp://host:port`` is understood too."""
    sentinels: tuple[str, ...] = ()
    """``host:port`` of Sentinels; ``sentinel_service`` names the master, ``url`` gives database and login."""
    sentinel_service: str = "tfgateway"
    """Name under which the Sentinels know the master."""
    timeout: Seconds = 5.0
    """Seconds for connecting and for each reply."""


class ExplorerSettings(_Section, frozen=True):
    """[explorer]"""

    url: str = "https://explorer.grid.tf/api/v1"
    """Base URL of the explorer's API."""
    timeout: Seconds = 15.0
    """Seconds for one request, long polling excluded."""
    poll_interval: Seconds = 10.0
    """Seconds between two polls that bring nothing, and between two looks at redis."""
    long_poll: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """Seconds that the explorer may hold a poll back until there is news; old ones ignore it. 0: never."""
    max_answer: Annotated[int, msgspec.Meta(ge=1024)] = 16 * 1024 * 1024
    """Bytes of one answer that are read at most."""


class Location(_Section, frozen=True):
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


class GatewaySettings(_Section, frozen=True):
    """[gateway]: what this node is."""

    farm_id: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Id of the farm that this gateway belongs to."""
    name_servers: tuple[str, ...] = ()
    """Names published as ``dns_nameserver``; the first is the MNAME of zones without a SOA."""
    managed_domains: tuple[str, ...] = ()
    """Zones in which any user may reserve names, without a final dot."""
    free_to_use: bool = False
    """Published in the explorer's directory."""
    tcp_client_port: Port = 18000
    """TCP port for tunnel clients that is published in the explorer's directory."""
    location: Location = Location()
    """Without it, what ``geoip`` says."""
    geoip: str = ""
    """URL of a GeoIP service that is asked when no location is configured; empty: nobody is asked."""


class ReconcilerSettings(_Section, frozen=True):
    """[reconciler]"""

    max_removal_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
    """A plan with which more than this share of the reservations of the last hour are gone refuses itself ..."""
    max_removal_count: Annotated[int, msgspec.Meta(ge=0)] = 10
    """... unless that is no more than this many."""
    repair_orphans: bool = False
    """Remove zones, subdomains, proxy entries and unreadable records behind which there is no reservation (P-5, P-12);
    they are reported as problems in any case."""
    max_reservations_per_user: Annotated[int, msgspec.Meta(ge=0)] = 1000
    """Of all types, on this gateway; what was granted once stays (P-26)."""
    max_zones_per_user: Annotated[int, msgspec.Meta(ge=0)] = 100
    """Delegated domains among them."""
    max_addresses: Annotated[int, msgspec.Meta(ge=0)] = 100
    """Addresses of one subdomain reservation."""
    parent_timeout: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    """Seconds that a subdomain waits for its domain to be delegated (again) until it is refused; 0: none."""
    resync_interval: Seconds = 3600.0
    """Seconds between two complete listings of the explorer."""
    lease: Annotated[float, msgspec.Meta(ge=1)] = 30.0
    """Seconds after which another reconciler may take over from one that went silent."""
    metrics: str = "127.0.0.1:9153"
    """``ADDRESS:PORT`` of the reconciler's metrics page."""


class WorkersSettings(_Section, frozen=True):
    """[workers]: the processes of the data planes dns and proxy."""

    start_timeout: Seconds = 120.0
    """Seconds that the new workers of a reload have to get ready; then the old ones go on and the reload has failed."""
    hang_timeout: Seconds = 30.0
    """Seconds of silence after which a worker is replaced."""
    address_timeout: Seconds = 30.0
    """Seconds that another process has, at a start, to let go of an address once everything is loaded."""


Workers = Annotated[int, msgspec.Meta(ge=0, le=256)]


class CookieSettings(_Section, frozen=True):
    """[dns.cookies]: DNS cookies (RFC 7873), with secrets from ``dns.secrets``."""

    enabled: bool = True
    """Make and check cookies."""
    required: bool = False
    """Over UDP, answer only clients with a valid cookie; others have to fetch one first, or to use TCP."""


PerSecond = Annotated[float, msgspec.Meta(ge=0)]


class RateSettings(_Section, frozen=True):
    """[dns.rate_limit]: responses a second over UDP to one network, of all workers together. 0: not limited."""

    mode: Literal["on", "log", "off"] = "on"
    """``log``: everything is answered; log and metrics tell what would not have been."""
    responses: PerSecond = 50
    """With records of one name; of names that a wildcard makes: of one zone."""
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


class TransferSettings(_Section, frozen=True):
    """[[dns.transfer]]: who may copy zones (AXFR, over TCP)."""

    network: str
    """CIDR."""
    key: str = ""
    """Name of the TSIG key in ``dns.secrets`` that requests have to be signed with; empty: none."""


class NotifySettings(_Section, frozen=True):
    """[[dns.notify]]: a secondary that is told when a zone has changed (RFC 1996)."""

    address: str
    """ADDRESS:PORT."""
    key: str = ""
    """Name of the TSIG key in ``dns.secrets`` for these messages; empty: they are not signed."""


class DnsSettings(_Section, frozen=True):
    """[dns]"""

    workers: Workers = 0
    """Processes; 0: half as many as processors."""
    listen: tuple[str, ...] = ("0.0.0.0:53", "[::]:53")
    """``ADDRESS:PORT`` of the sockets, each for UDP and TCP."""
    ttl: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 300
    """Ceiling and default of served TTLs, seconds (spec redis-layout §4)."""
    serve_stale: Seconds = 86400.0
    """Seconds for which the last known zones are served while redis is away; then SERVFAIL."""
    udp_size: Annotated[int, msgspec.Meta(ge=512, le=4096)] = 1232
    """Bytes of UDP payload that are sent at most: what passes everywhere unfragmented (RFC 9715)."""
    secrets: str = ""
    """Path of a TOML file with what must stay secret (see ``dns.secrets``); empty: there is none."""
    cookies: CookieSettings = CookieSettings()
    rate_limit: RateSettings = RateSettings()
    transfer: tuple[TransferSettings, ...] = ()
    """Empty: nobody may copy zones (D-10)."""
    notify: tuple[NotifySettings, ...] = ()
    nsid: DnsText = ""
    """Told to clients that ask which server this is (RFC 5001); empty: nothing."""
    chaos_id: DnsText = ""
    """Answers ``id.server`` and ``hostname.bind`` in class CHAOS; empty: REFUSED."""
    chaos_version: DnsText = ""
    """Answers ``version.server`` and ``version.bind`` in class CHAOS; empty: REFUSED."""
    tcp_idle: Seconds = 10.0
    """A tenth of it, when more than half of ``tcp_connections`` are in use."""
    tcp_connections: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Open TCP connections at most."""
    tcp_connections_per_client: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Workers share it, rounded up, as all limits on connections: chance may turn a client away a little sooner."""
    key_prefix: str = ""
    """What stands before a zone's name in its redis key; the original's ``prefix``."""
    key_suffix: str = ""
    """What stands after it; the original's ``suffix``."""
    metrics: str = "127.0.0.1:9154"
    """``ADDRESS:PORT`` of the DNS plane's metrics page."""


class TargetSettings(_Section, frozen=True):
    """One of ``targets`` of a [[proxy.services]]"""

    address: str
    """IP literal or host name; names are resolved again and again."""
    http_port: Port = 0
    """0: takes no plain HTTP."""
    tls_port: Port = 0
    """0: takes no TLS."""
    weight: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Its share of the visitors, beside the other targets."""


class CheckSettings(_Section, frozen=True):
    """[proxy.services.check]: asks each target again and again whether it works"""

    type: Literal["tcp", "http"] = "tcp"
    """``tcp``: accepts a connection; ``http``: answers ``path`` with a status below 400."""
    port: Port = 0
    """0: the target's HTTP port or, without one, its TLS port."""
    path: Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*\Z")] = "/"
    """Path that is asked for by ``http``."""
    host: Annotated[str, msgspec.Meta(pattern=r"^[!-~]*\Z")] = ""
    """Host field of the request; empty: the first of ``names``."""
    interval: Seconds = 5.0
    """Seconds between two checks."""
    timeout: Seconds = 2.0
    """Seconds that one check may take."""
    rise: Annotated[int, msgspec.Meta(ge=1)] = 2
    """Checks in a row that must pass until a target that was down is used again."""
    fall: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Checks in a row that must fail until a target is not used any more."""


class ServiceSettings(_Section, frozen=True):
    """[[proxy.services]]: a static service, looked up before those in redis"""

    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Host names; ``CATCH_ALL``: whatever nothing else is found for."""
    targets: tuple[TargetSettings, ...] = ()
    tunnel_secret: str = ""
    """Of the tunnel that leads there, instead of ``targets``."""
    balance: Literal["round_robin", "least_connections"] = "round_robin"
    """How a target is chosen for the next visitor."""
    check: CheckSettings | None = None
    """Without it, a target is always taken to work."""
    slow_start: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds in which a target that came back is led up to its full share."""
    allow: tuple[str, ...] = ()
    """Networks (CIDR) whose visitors are served; empty: everybody."""
    proxy_protocol: Literal["off", "v1", "v2"] = "off"
    """Version in which the targets are told the visitor's address (T-18)."""


class ProxySettings(_Section, frozen=True):
    """[proxy]"""

    workers: Workers = 0
    """Processes; 0: half as many as processors."""
    listen_http: tuple[str, ...] = ("0.0.0.0:80", "[::]:80")
    """``ADDRESS:PORT`` of the sockets for plain HTTP."""
    listen_tls: tuple[str, ...] = ("0.0.0.0:443", "[::]:443")
    """``ADDRESS:PORT`` of the sockets for TLS."""
    router_toml: str = ""
    """An old ``router.toml`` whose static services are honoured; empty: none."""
    head_timeout: Seconds = 10.0
    """Seconds until a visitor must have sent its ClientHello or HTTP head (T-2)."""
    dial_timeout: Seconds = 10.0
    """Seconds until a target must have accepted."""
    idle_timeout: Seconds = 3600.0
    """Seconds after which a connection is closed on which nothing moves."""
    drain_timeout: Seconds = 30.0
    """Seconds that open connections have to end at a stop or reload."""
    max_connections: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """Open connections of visitors at most."""
    max_connections_per_source: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Workers share it, as ``max_connections``: chance may turn a source away a little sooner."""
    max_unmatched: Annotated[int, msgspec.Meta(ge=1)] = 2000
    """Visitors who have not yet said what they want; above, whoever is silent longest gives way."""
    services: tuple[ServiceSettings, ...] = ()
    proxy_protocol_from: tuple[str, ...] = ()
    """Networks (CIDR) of balancers whose connections begin with a PROXY header (v1 or v2)."""
    access_log: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of the connections that get a line in the log: 1 for all, 0 for none."""
    allowed_targets: tuple[str, ...] = ()
    """Networks (CIDR) that tenants may name although they are denied by default (T-15)."""
    listen_tunnels: tuple[str, ...] = ("0.0.0.0:18000", "[::]:18000")
    """Where tunnel clients connect; empty: this gateway takes none."""
    listen_tunnels_tls: tuple[str, ...] = ()
    """The same inside TLS (T-21); needs ``tunnel_certificate`` and ``tunnel_key``."""
    tunnel_certificate: str = ""
    """Path of the certificate chain, PEM."""
    tunnel_key: str = ""
    """Path of its private key, PEM."""
    tunnel_grace: Seconds = 10.0
    """Seconds for which a visitor waits for a client that is reconnecting."""
    tunnel_share: bool = False
    """Clients with one secret share its visitors; by default the newest one replaces the others."""
    tunnel_streams: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Visitors in one tunnel at once."""
    tunnel_unknown: Annotated[int, msgspec.Meta(ge=0)] = 64
    """Clients that are held although no service has their secret yet (T-4) ..."""
    tunnel_unknown_time: Seconds = 30.0
    """... and for how many seconds."""
    metrics: str = "127.0.0.1:9155"
    """``ADDRESS:PORT`` of the proxy's metrics page."""


class FourToSixSettings(_Section, frozen=True):
    """[fourtosix]"""

    endpoint: str = ""
    """``HOST:PORT`` that users are told to connect to (IPv6 in brackets); empty: this gateway gives no IPv6."""
    interface: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}\Z")] = "wg-tfgateway"
    """Name of the WireGuard interface."""
    listen_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 3443
    """UDP."""
    private_key: Literal["seed", "derived"] = "seed"
    """``seed``: the seed file's, which users of the old gateway know, and which whoever reads the interface's key has.
    ``derived``: one that tells nothing about the seed (C-3). Changing it changes every user's configuration."""
    metrics: str = "127.0.0.1:9156"
    """``ADDRESS:PORT`` of the 4to6 plane's metrics page."""


class LogSettings(_Section, frozen=True):
    """[log]"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe events that are logged."""
    format: Literal["json", "console"] = "json"
    """``json``: an object a line. ``console``: for a person at a terminal."""


class Settings(_Section, frozen=True):
    """The whole file."""

    identity: IdentitySettings = IdentitySettings()
    redis: RedisSettings = RedisSettings()
    explorer: ExplorerSettings = ExplorerSettings()
    gateway: GatewaySettings = GatewaySettings()
    reconciler: ReconcilerSettings = ReconcilerSettings()
    workers: WorkersSettings = WorkersSettings()
    dns: DnsSettings = DnsSettings()
    proxy: ProxySettings = ProxySettings()
    fourtosix: FourToSixSettings = FourToSixSettings()
    log: LogSettings = LogSettings()


def load(path: Path | None = None) -> Settings:
    """Read settings. Errors: ``ConfigError`` that names the file and the key."""
    where = path or Path(os.environ.get("TFGATEWAY_CONFIG", str(DEFAULT_PATH)))
    try:
        raw = where.read_bytes()
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from error
    return parse(raw, str(where))


def parse(raw: bytes, name: str = "gateway.toml") -> Settings:
    """Settings from TOML bytes, every value checked. Errors: ``ConfigError``."""
    try:
        settings = msgspec.toml.decode(raw, type=Settings)
    except (ValueError, RecursionError) as error:  # msgspec's errors, and text that is no UTF-8
        raise ConfigError(f"{name}: {error}") from error
    lists = [
        ("dns.listen", settings.dns.listen),
        ("proxy.listen_http", settings.proxy.listen_http),
        ("proxy.listen_tls", settings.proxy.listen_tls),
        ("proxy.listen_tunnels", settings.proxy.listen_tunnels),
        ("proxy.listen_tunnels_tls", settings.proxy.listen_tunnels_tls),
        ("reconciler.metrics", (settings.reconciler.metrics,)),
        ("dns.metrics", (settings.dns.metrics,)),
        ("dns.notify.address", tuple(item.address for item in settings.dns.notify)),
        ("proxy.metrics", (settings.proxy.metrics,)),
        ("fourtosix.metrics", (settings.fourtosix.metrics,)),
    ]
    for key, values in lists:
        for value in values:
            try:
                host_port(value)
            except ValueError as error:
                raise ConfigError(f"{name}: {key}: {error}") from error
    networks = [
        ("proxy.allowed_targets", settings.proxy.allowed_targets),
        ("dns.rate_limit.exempt", settings.dns.rate_limit.exempt),
        ("dns.transfer.network", tuple(item.network for item in settings.dns.transfer)),
        ("proxy.proxy_protocol_from", settings.proxy.proxy_protocol_from),
        *(("proxy.services.allow", service.allow) for service in settings.proxy.services),
    ]
    for key, values in networks:
        for value in values:
            try:
                ipaddress.ip_network(value)
            except ValueError as error:
                raise ConfigError(f"{name}: {key}: {error}") from error
    if settings.proxy.listen_tunnels_tls and not (settings.proxy.tunnel_certificate and settings.proxy.tunnel_key):
        raise ConfigError(f"{name}: proxy.listen_tunnels_tls: needs proxy.tunnel_certificate and proxy.tunnel_key")
    for service in settings.proxy.services:
        if bool(service.targets) == bool(service.tunnel_secret):
            raise ConfigError(f"{name}: proxy.services: '{service.names[0]}' needs either targets or tunnel_secret")
    if settings.fourtosix.endpoint and not _is_endpoint(settings.fourtosix.endpoint):
        raise ConfigError(
            f"{name}: fourtosix.endpoint: '{settings.fourtosix.endpoint}' is not HOST:PORT (IPv6 in brackets)"
        )
    return settings


def _is_endpoint(text: str) -> bool:
    """Whether a user's WireGuard would take it: a name or address, and a port."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        return False
    try:
        return host_port(text)[0] != ""
    except ValueError:
        return _NAME.fullmatch(host) is not None


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
