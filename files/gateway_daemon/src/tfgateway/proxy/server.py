"""The proxy as a whole: listeners, the live table of services, the way to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tfgateway import targets
from tfgateway.errors import ConfigError, GatewayError, LayoutError
from tfgateway.layout.connection import connect
from tfgateway.layout.keys import SERVICE_PREFIX, domain_of_service_key
from tfgateway.mirror import Mirror, Selection
from tfgateway.proxy.answers import TOO_MANY
from tfgateway.proxy.dial import Dialler
from tfgateway.proxy.forwarder import Forwarder, Visit
from tfgateway.proxy.limits import Admission
from tfgateway.proxy.listener import Listener
from tfgateway.proxy.metrics import ProxyMetrics
from tfgateway.proxy.routerfile import parse_router_toml
from tfgateway.proxy.routing import Plane, RouteTable, StaticRoutes
from tfgateway.settings import RedisSettings, Settings
from tfgateway.telemetry import metrics as metrics_page
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.seam import NoTunnels

_THROWN_AWAY = 16 * 1024  # octets of a visitor over a limit

_log = logger("proxy")


async def serve(
    settings: Settings,
    *,
    stopping: asyncio.Event,
    ready: Callable[[], None],
    status: Callable[[str], None],
) -> None:
    """Serve until ``stopping`` is set, then let the connections end for up to ``proxy.drain_timeout`` seconds.

    ``ready`` is called once visitors are accepted. That is not before all services are known: until then connections
    are refused, so that nobody hears that a service is unknown because it was not read yet. Errors: ``ConfigError``;
    ``GatewayError`` for an address that cannot be listened on.
    """
    _use_all_descriptors()
    tunnels = NoTunnels()
    table = RouteTable(_static_routes(settings.proxy.router_toml), tunnels)
    mirror = _mirror_into(table, settings.redis)
    metrics = ProxyMetrics(services=lambda: len(table), mirror_age=mirror.age)
    dialler = Dialler(
        timeout=settings.proxy.dial_timeout,
        allowed=targets.networks(settings.proxy.allowed_targets),
        own_addresses=targets.own_addresses,
    )
    forwarder = Forwarder(settings.proxy, table, dialler, tunnels, metrics)
    admission = Admission(total=settings.proxy.max_connections, per_source=settings.proxy.max_connections_per_source)
    entrance = _Entrance(forwarder, admission)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(entrance.close)
        entrance.bind({Plane.HTTP: settings.proxy.listen_http, Plane.TLS: settings.proxy.listen_tls})
        try:
            page = await metrics_page.serve(metrics.registry, settings.proxy.metrics)
        except OSError as error:
            raise _cannot_listen(settings.proxy.metrics, error) from error
        stack.push_async_callback(page.cleanup)
        following = asyncio.create_task(mirror.run())
        stack.callback(following.cancel)
        status("waiting for redis")
        await _until_one_of(following, stopping, mirror.ready)
        if stopping.is_set():
            return
        entrance.open()
        ready()
        status("serving")
        await _until_one_of(following, stopping)
        entrance.close()
        status("waiting for open connections to end")
        await entrance.drain(settings.proxy.drain_timeout)


class _Entrance:
    """The listeners, and the connections that came in through them."""

    def __init__(self, forwarder: Forwarder, admission: Admission) -> None:
        self._forwarder = forwarder
        self._admission = admission
        self._listeners: list[Listener] = []
        self._serving: set[asyncio.Task[None]] = set()

    def bind(self, addresses: Mapping[Plane, tuple[str, ...]]) -> None:
        """Take the addresses, without listening yet. Errors: ``GatewayError``."""
        for plane, listen in addresses.items():
            for address in listen:
                try:
                    self._listeners.append(Listener(address, partial(self._accepted, plane)))
                except OSError as error:
                    if error.errno != errno.EAFNOSUPPORT:
                        raise _cannot_listen(address, error) from error
                    # A machine without IPv6 serves IPv4 with the default settings.
                    _log.warning("not listening: no such address family here", listen=address)
        if not self._listeners:
            raise ConfigError("proxy.listen_http, proxy.listen_tls: no address that can be listened on")

    def open(self) -> None:
        """Listen and accept. Errors: ``GatewayError``."""
        for listener in self._listeners:
            try:
                listener.start()
            except OSError as error:
                raise _cannot_listen(listener.address, error) from error

    def close(self) -> None:
        """Stop accepting; again is harmless."""
        for listener in self._listeners:
            listener.close()

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - not an error when it is over
        """Wait up to ``timeout`` seconds until all connections have ended, then cut what is left."""
        if not self._serving:
            return
        _, late = await asyncio.wait(self._serving, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            _log.info("connections cut", connections=len(late))
            await asyncio.wait(late)

    def _accepted(self, plane: Plane, visitor: socket.socket, source: str) -> None:
        if not self._admission.enter(source):
            self._turn_away(plane, visitor, source)
            return
        task = asyncio.create_task(self._forwarder.serve(visitor, source, plane))
        self._serving.add(task)
        task.add_done_callback(partial(self._left, source))

    def _left(self, source: str, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        self._admission.leave(source)

    def _turn_away(self, plane: Plane, visitor: socket.socket, source: str) -> None:
        """Answer at once or not at all: whoever is over a limit gets no more of our time."""
        with visitor, contextlib.suppress(OSError):
            with contextlib.suppress(BlockingIOError):
                visitor.recv(_THROWN_AWAY)  # closing with bytes unread would reset the answer away
            visitor.send(TOO_MANY.answer(plane))
        self._forwarder.account(Visit(source, plane, outcome=TOO_MANY.outcome), 0.0)


def _static_routes(path: str) -> StaticRoutes:
    """Services of the operator's ``router.toml``; none without a path. Errors: ``ConfigError``."""
    if not path:
        return StaticRoutes()
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"proxy.router_toml: {path}: cannot be read: {error.strerror}") from error
    routes, problems = parse_router_toml(raw, path)
    for problem in problems:
        _log.warning("static service skipped", reason=problem)
    return routes


def _mirror_into(table: RouteTable, settings: RedisSettings) -> Mirror:
    """A mirror that keeps ``table`` as redis is; what cannot be used is logged and is not served."""

    def update(key: bytes, value: object) -> None:
        try:
            table.update(key, value if isinstance(value, bytes) else None)
        except LayoutError as error:
            _log.warning("service skipped", key=key, reason=str(error))

    return Mirror(
        partial(
            connect,
            settings.url,
            timeout=settings.timeout,
            sentinels=settings.sentinels,
            sentinel_service=settings.sentinel_service,
        ),
        Selection(
            match=SERVICE_PREFIX.encode() + b"*",
            accept=lambda key: domain_of_service_key(key) is not None,  # T-8
            kind="string",
        ),
        update,
        _log,
    )


async def _until_one_of(following: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Wait for the first event. Errors: what ended ``following``, which never ends by itself."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait([following, *waits], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if following.done():
        following.result()


def _cannot_listen(address: str, error: OSError) -> GatewayError:
    return GatewayError(f"cannot listen on {address}: {error.strerror}")


def _use_all_descriptors() -> None:
    """Raise the soft limit to the hard one: a connection takes two descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
