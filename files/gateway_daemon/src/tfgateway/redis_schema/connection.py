"""Connections to redis: one set of options for the whole package."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from tfgateway.errors import ConfigError, StoreError
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.login import FileLogin, RedisUser
from tfgateway.redis_schema.marker import LONGEST
from tfgateway.settings import RedisSettings
from tfgateway.telemetry.text import printable

_SENTINEL_PORT = 26379
_SENTINEL_OPTIONS = frozenset({"socket_timeout", "socket_connect_timeout", "protocol", "retry", "driver_info"})
_OLD_SCHEMES = ("tcp", "unix")
_URL_OPTIONS = frozenset({"connection_class", "db", "host", "password", "path", "port", "username"})


def connect_to_master(settings: RedisSettings, *users: RedisUser) -> Redis:
    """The redis that is written: in a group of gateways any member's, else the only one.

    users: see ``FileLogin``. Errors: ``ConfigError``.
    """
    return connect(
        settings.url,
        login=FileLogin(Path(settings.secrets), users),
        timeout=settings.timeout,
        sentinels=settings.sentinels,
        sentinel_service=settings.sentinel_service,
        same_logins=bool(settings.replica),
    )


def connect_to_replica(settings: RedisSettings, *users: RedisUser) -> Redis:
    """The redis that is read: in a group of gateways this member's own, master or replica, else the only one.

    users: see ``FileLogin``. Errors: ``ConfigError``.
    """
    if not settings.replica:
        return connect_to_master(settings, *users)
    return connect(settings.replica, login=FileLogin(Path(settings.secrets), users), timeout=settings.timeout)


def connect(
    url: str,
    *,
    timeout: float,
    login: FileLogin | None = None,
    sentinels: Sequence[str] = (),
    sentinel_service: str = "",
    same_logins: bool = False,
) -> Redis:
    """A client with its own pool; nothing is dialled before the first command. The caller closes it.

    url: ``redis://``, ``rediss://``, ``unix://``, or ``tcp://`` of the old daemon. login: for a socket whose url has
    none; passwords of this node go to no other one.
    timeout: seconds for connecting and for each reply. sentinels: ``host:port`` of Sentinels that know the master
    ``sentinel_service``; the url then gives login, database and TLS. same_logins: whether the nodes that they may name
    know the same passwords as this one. Errors: ``ConfigError``.
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
    own = "path" in options or (bool(sentinels) and same_logins)
    if login is not None and own and not options.keys() & {"username", "password"}:
        options["credential_provider"] = login
    if not sentinels:
        return Redis.from_pool(ConnectionPool(**options))
    for name in ("host", "port", "path"):
        options.pop(name, None)
    options["ssl"] = options.pop("connection_class", None) is SSLConnection
    asked = {name: value for name, value in options.items() if name in _SENTINEL_OPTIONS or name.startswith("ssl")}
    addresses = [_sentinel(text) for text in sentinels]
    manager = _Majority(addresses, sentinel_kwargs=asked, **options)  # type: ignore[no-untyped-call]
    client: Redis = manager.master_for(sentinel_service, connection_pool_class=_MasterPool)
    return client


async def confirm_master(client: Redis) -> None:
    """Have this client's next commands go to the master that most Sentinels name now; without Sentinels there is one.

    Errors: ``StoreError``: most of them do not answer, or name none.
    """
    if isinstance(client.connection_pool, _MasterPool):
        with store_errors():
            await client.connection_pool.get_master_address()  # type: ignore[no-untyped-call]


async def ask_sentinels(client: Redis) -> list[tuple[str, int] | None]:
    """The master's address by each Sentinel; None: it does not answer. Empty: the client knows no Sentinels."""
    pool = client.connection_pool
    if not isinstance(pool, _MasterPool):
        return []
    return await asyncio.gather(*(_named(one, pool.service_name) for one in pool.sentinel_manager.sentinels))


class _Majority(Sentinel):
    """Sentinels of which most have to name the same master: one that was cut off with an old master does not count."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """The address that most of the Sentinels name. Errors: ``MasterNotFoundError``."""
        votes: Counter[tuple[str, int]] = Counter()
        asked = [asyncio.ensure_future(_named(sentinel, service_name)) for sentinel in self.sentinels]
        try:
            for answer in asyncio.as_completed(asked):
                if (address := await answer) is not None:
                    votes[address] += 1
                    if 2 * votes[address] > len(asked):
                        return address
        finally:
            for task in asked:
                task.cancel()
        said = ", ".join(f"{host}:{port} by {count}" for (host, port), count in votes.items()) or "none"
        raise MasterNotFoundError(
            f"{sum(votes.values())} of {len(asked)} Sentinels name a master of {service_name!r} ({said}): more than "
            "half have to name the same"
        )


async def _named(sentinel: Redis, service_name: str) -> tuple[str, int] | None:
    """The master by one Sentinel; None: it does not know, or does not answer."""
    with contextlib.suppress(RedisError, OSError):
        found: Any = await sentinel.sentinel_get_master_addr_by_name(service_name)
        if found:
            host, port = found
            return (host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)), int(port)
    return None


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
