"""``tunnel.toml``: the services of a client, and their gateways."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tfgateway.errors import ConfigError
from tfgateway.net.addresses import endpoint, host_port
from tfgateway.settings.section import Seconds, Section
from tfgateway.tunnel.client.model import ClientOptions, ConfiguredTunnel, HostPort
from tfgateway.tunnel.handshake import MAX_SECRET

PROXY_PROTOCOL = {"off": 0, "v1": 1, "v2": 2}
"""Versions by their name in file and flags."""


class TlsSettings(Section, frozen=True):
    """[tls]: the connections to the gateways are inside TLS, and certificates are verified."""

    ca: str = ""
    """File with certificates to trust (PEM); empty: the system's."""
    name: str = ""
    """In the gateways' certificates; empty: the host of each gateway."""


class TunnelSettings(Section, frozen=True):
    """[[tunnels]]: one service."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,63}\Z")]
    """In status, log and metrics."""
    secret_file: str
    """File that holds the secret of its reservation."""
    local: str = ""
    """``HOST:PORT`` of the service for visitors without TLS."""
    local_tls: str = ""
    """The same for those with TLS; empty: that of ``local``."""
    gateways: tuple[str, ...] = ()
    """``HOST:PORT`` of its gateways; empty: those of the whole file."""
    proxy_protocol: Literal["off", "v1", "v2"] | None = None
    """PROXY header that gives the service the visitor's address; not set: as the gateway's operator has set."""
    max_visitors: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """At once, with each gateway."""


class ClientSettings(Section, frozen=True):
    """The content of ``tunnel.toml``. Paths are relative to its directory."""

    tunnels: Annotated[tuple[TunnelSettings, ...], msgspec.Meta(min_length=1)]
    gateways: tuple[str, ...] = ()
    """``HOST:PORT`` of the gateways, for tunnels that name none."""
    tls: TlsSettings | None = None
    """Not set: in clear, as the old client."""
    backoff: Seconds = 5.0
    """Seconds before the second attempt; they double up to a minute."""
    metrics: str = ""
    """``ADDRESS:PORT`` of the metrics page; empty: none."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What a file asks for."""

    tunnels: Sequence[ConfiguredTunnel]
    metrics: str
    files: Sequence[Path]
    """The file, and those that it names: a change of any counts."""


def load(path: Path) -> ClientConfig:
    """Read the file and what it names. Errors: ``ConfigError`` that says which key of which file is wrong."""
    try:
        settings = msgspec.toml.decode(path.read_bytes(), type=ClientSettings)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if settings.metrics:
        _address(path, "metrics", settings.metrics, host_port)
    context, files = None, [path]
    if settings.tls is not None:
        ca = path.parent / settings.tls.ca if settings.tls.ca else None
        files += [ca] if ca else []
        context = tls_context(ca, f"{path}: tls.ca")
    tunnels: list[ConfiguredTunnel] = []
    for one in settings.tunnels:
        secret = path.parent / one.secret_file
        files.append(secret)
        tunnels += _tunnels(path, settings, one, read_secret(secret, f"{path}: secret_file of {one.name}"), context)
    _refuse_duplicates(path, tunnels)
    return ClientConfig(tunnels, settings.metrics, files)


def read_secret(path: Path, of: str) -> bytes:
    """The content of a file, without space around it. ``of``: what the error names. Errors: ``ConfigError``."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{of}: {path}: {error.strerror}") from error
    check_secret(secret, of)
    return secret


def check_secret(secret: bytes, of: str) -> None:
    """Errors: ``ConfigError``: no client can register with it."""
    if not 1 <= len(secret) <= MAX_SECRET:
        raise ConfigError(f"{of}: the secret has {len(secret)} bytes; 1 to {MAX_SECRET} are possible")


def tls_context(ca: Path | None, of: str) -> ssl.SSLContext:
    """Verifies certificates by ``ca``, or by the system's. Errors: ``ConfigError``."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{of}: {ca}: {error.strerror or error}") from error


def _tunnels(
    path: Path, settings: ClientSettings, one: TunnelSettings, secret: bytes, context: ssl.SSLContext | None
) -> list[ConfiguredTunnel]:
    gateways = one.gateways or settings.gateways
    if not gateways:
        raise ConfigError(f"{path}: {one.name} has no gateway: set gateways, there or for the whole file")
    if not one.local and not one.local_tls:
        raise ConfigError(f"{path}: {one.name} has no service: set local, local_tls or both")
    local = _address(path, f"local of {one.name}", one.local) if one.local else None
    local_tls = _address(path, f"local_tls of {one.name}", one.local_tls) if one.local_tls else local
    tls = settings.tls
    options = ClientOptions(
        secret=secret,
        local=local,
        local_tls=local_tls,
        backoff=settings.backoff,
        proxy_protocol=None if one.proxy_protocol is None else PROXY_PROTOCOL[one.proxy_protocol],
        tls=context,
        tls_name=tls.name if tls is not None else "",
        max_visitors=one.max_visitors,
        may_change=True,
    )
    files = (tls.ca,) if tls is not None else ()
    return [
        ConfiguredTunnel(one.name, _address(path, f"gateways of {one.name}", gateway), options, files)
        for gateway in gateways
    ]


def _address(path: Path, key: str, text: str, parse: Callable[[str], HostPort] = endpoint) -> HostPort:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {key}: {error}") from error


def _refuse_duplicates(path: Path, tunnels: Sequence[ConfiguredTunnel]) -> None:
    names: dict[tuple[HostPort, bytes], str] = {}
    seen: set[tuple[str, HostPort]] = set()
    for tunnel in tunnels:
        if (tunnel.name, tunnel.remote) in seen:
            raise ConfigError(f"{path}: {tunnel.name} has a gateway twice, or there are two with this name")
        seen.add((tunnel.name, tunnel.remote))
        other = names.setdefault((tunnel.remote, tunnel.options.secret), tunnel.name)
        if other != tunnel.name:
            raise ConfigError(f"{path}: {other} and {tunnel.name} have the same secret: each takes the other's place")
