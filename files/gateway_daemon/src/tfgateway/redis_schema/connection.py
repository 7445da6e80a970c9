"""Connections to redis: one set of options for the whole package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from tfgateway.errors import ConfigError, StoreError
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.login import FileLogin, RedisUser
from tfgateway.redis_schema.marker import LONGEST
from tfgateway.settings import RedisSettings
from tfgateway.telemetry.text import printable

_SENTINEL_PORT = 26379
_OLD_SCHEMES = ("tcp", "unix")
_URL_OPTIONS = frozenset({"connection_class", "db", "host", "password", "path", "port", "username"})


def connect_as(settings: RedisSettings, *users: RedisUser) -> Redis:
    """``connect`` with what the operator configured. users: see ``FileLogin``. Errors: ``ConfigError``."""
    return connect(
        settings.url,
        login=FileLogin(Path(settings.secrets), users),
        timeout=settings.timeout,
        sentinels=settings.sentinels,
        sentinel_service=settings.sentinel_service,
    )


def connect(
    url: str,
    *,
    timeout: float,
    login: FileLogin | None = None,
    sentinels: Sequence[str] = (),
    sentinel_service: str = "",
) -> Redis:
    """A client with its own pool; nothing is dialled before the first command. The caller closes it.

    url: ``redis://``, ``rediss://``, ``unix://``, or ``tcp://`` of the old daemon. login: for a socket whose url has
    none; passwords of this node go to no other one.
    timeout: seconds for connecting and for each reply. sentinels: ``host:port`` of Sentinels that know the master
    ``sentinel_service``; the url then gives login, database and TLS. Errors: ``ConfigError``.
    """
    options = _options(url)
    options.update(
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        decode_responses=False,
        protocol=2,
        driver_info=None,  # CLIENT SETINFO, which no user of ours may send
        # The caller decides what is safe to repeat: a lost reply does not mean a lost write.
        retry=Retry(NoBackoff(), 0),
    )
    if login is not None and "path" in options and not options.keys() & {"username", "password"}:
        options["credential_provider"] = login
    if not sentinels:
        return Redis.from_pool(ConnectionPool(**options))
    for name in ("host", "port", "path"):
        options.pop(name, None)
    options["ssl"] = options.pop("connection_class", None) is SSLConnection
    asked = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout", "protocol", "retry")}
    addresses = [_sentinel(text) for text in sentinels]
    manager = Sentinel(addresses, sentinel_kwargs=asked, **options)  # type: ignore[no-untyped-call]
    client: Redis = manager.master_for(sentinel_service, connection_pool_class=_MasterPool)
    return client


class _MasterPool(SentinelConnectionPool):
    """Connections to the master that Sentinels name; closing it closes the connections to them as well."""

    sentinel_manager: Sentinel

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Convert every error of redis and of the connection to ``StoreError``."""
    try:
        yield
    except AuthenticationError as error:
        advice = "run commands as root, and restart units that are older than their file"
        raise StoreError(f"redis: {printable(error)}: {advice}") from error
    except (RedisError, OSError) as error:
        raise StoreError(f"redis: {printable(error) or type(error).__name__}") from error


def _options(url: str) -> dict[str, Any]:
    """Arguments of a redis-py connection. An error never shows the url: it may hold a password."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - read to have it checked
        # the old daemon knows no database and sends what stands before a lone "@" as the password.
        if parts.scheme in _OLD_SCHEMES and parts.username and not parts.password:
            parts = parts._replace(netloc=f":{parts.username}@{parts.netloc.rpartition('@')[2]}")
        if parts.scheme == "tcp":
            parts = parts._replace(scheme="redis", path="")
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ConfigError(f"redis.url: unknown scheme '{printable(parts.scheme)}': tcp, unix, redis or rediss")
        if parts.scheme == "unix" and not parts.path:
            raise ConfigError("redis.url: unix:// needs the path of a socket: unix:///run/redis.sock")
        options = dict(parse_url(parts.geturl()))
    except ValueError:
        raise ConfigError("redis.url: not a URL of the form redis://[user:password@]host:port/database") from None
    for name in options:
        if name not in _URL_OPTIONS and not name.startswith("ssl_"):
            raise ConfigError(f"redis.url: unknown option '{printable(name)}': db, username, password or ssl_...")
    return options


def _sentinel(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or _SENTINEL_PORT
    except ValueError:
        host, port = None, 0
    if not host or parts.path:
        raise ConfigError(f"redis.sentinels: '{printable(text)}' is not HOST:PORT")
    return host, port


async def marker_text(redis: Redis) -> bytes:
    """The marker as it stands in redis, at most one byte more than may be read; empty: there is none.

    A key of another type is text that is no marker. Errors: ``StoreError``.
    """
    with store_errors():
        try:
            found: Any = await redis.getrange(MARKER, 0, LONGEST)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return b"of another type"
    return bytes(found)
