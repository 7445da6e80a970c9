"""The proxy as a whole: its parts, the start, and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from tfgateway.aio import first_of
from tfgateway.errors import ConfigError, SchemaError
from tfgateway.mirror import HoldCollector, Mirror, Selection, SnapshotWriter, hold_metric
from tfgateway.mirror.disk import snapshot
from tfgateway.net import addresses
from tfgateway.net.sockets import ordinary
from tfgateway.plane import Listening, WorkerContext, share
from tfgateway.proxy.connection import connection
from tfgateway.proxy.connection.connection import Connection
from tfgateway.proxy.connection.context import ProxyContext
from tfgateway.proxy.eventloop.engine import Engine, running_engine
from tfgateway.proxy.health import Watch
from tfgateway.proxy.listener import Listener
from tfgateway.proxy.loops.guard import LoopGuard
from tfgateway.proxy.loops.own_dials import OwnDials
from tfgateway.proxy.loops.repeated_hellos import RepeatedHellos
from tfgateway.proxy.metrics import ProxyMetrics
from tfgateway.proxy.own_addresses import OwnAddresses
from tfgateway.proxy.parse.cdn_loop import CdnLoop
from tfgateway.proxy.protocol import Protocol
from tfgateway.proxy.routing.router_file import parse_router_toml
from tfgateway.proxy.routing.static_services import static_services
from tfgateway.proxy.routing.table import RouteTable, StaticRoutes
from tfgateway.proxy.upstream.dial import Dialler
from tfgateway.redis_schema.connection import connect_to_master, connect_to_replica
from tfgateway.redis_schema.keys import SERVICE_PREFIX, domain_of_service_key
from tfgateway.redis_schema.login import PROXY, PROXY_TUNNELS
from tfgateway.settings import ProxySettings, RedisSettings, Settings
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.api import RelayedByTunnel, Visitor
from tfgateway.tunnel.gateway.metrics import TunnelMetrics
from tfgateway.tunnel.gateway.presence import report
from tfgateway.tunnel.gateway.server import TunnelServer
from tfgateway.tunnel.links.shared_key import shared_key
from tfgateway.tunnel.session.tls import server_context

Accept = Callable[[socket.SocketType, str], None]

_COLLECT = (20_000, 10, 20)
"""Thresholds of Python's collector: a connection that ends leaves no cycles, so there is little to find."""

_LOOP_KEY = "cdn-loop.key"
_OWN_DIALS = "own-dials"
_HELLOS = "hellos"
"""Files of all workers, in their directory."""

_SERVICES = Selection(
    match=SERVICE_PREFIX.encode() + b"*",
    accept=lambda key: domain_of_service_key(key) is not None,  # T-8
    kind="string",
)

_log = logger("proxy")


async def serve(settings: Settings, worker: WorkerContext) -> None:
    """Serve until ``worker.stopping``, then let the connections end for up to ``proxy.drain_timeout`` seconds.

    No connection is accepted before all services are known: until then connections are refused, so that none is
    answered that a service is unknown because it was not read yet. Errors: ``ConfigError``.
    """
    _use_all_descriptors()
    gc.disable()  # until everything is read: a million new objects are no reason to look through them
    own = of_one_worker(settings.proxy, worker.workers)
    tunnel_metrics = CollectorRegistry()

    def adopt(visitor: Visitor, carrying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        connection.adopt(context, visitor, carrying)

    tunnels = TunnelServer(own, TunnelMetrics(tunnel_metrics), runtime=worker.runtime, name=worker.name, adopt=adopt)
    static, services = static_services(settings.proxy.services, _old_routes(settings.proxy.router_toml))
    table = RouteTable(static, tunnels)
    file = snapshot.path_of("proxy")
    mirror = _mirror_into(table, settings.redis, file)
    metrics = ProxyMetrics(services=lambda: len(table), mirror_age=mirror.age)
    alike = ("tfgateway_proxy_services", "tfgateway_proxy_mirror_age_seconds", "tfgateway_proxy_target_up")
    metrics.registry.register(HoldCollector("proxy", mirror))
    worker.publish(metrics.registry, greatest=(*alike, hold_metric("proxy")))
    metrics.include(tunnel_metrics.collect)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(tunnels.close)
        engine = running_engine()
        public = addresses.literals(settings.gateway.public_addresses)
        own_addresses = OwnAddresses(partial(addresses.own_addresses, public))
        own_dials = OwnDials.open(worker.runtime / _OWN_DIALS, own_addresses)
        hellos = RepeatedHellos.open(worker.runtime / _HELLOS)
        loop_guard = LoopGuard(own_dials, hellos, CdnLoop(shared_key(worker.runtime / _LOOP_KEY)))
        stack.callback(loop_guard.close)
        context = ProxyContext(
            own,
            engine=engine,
            table=table,
            dialler=Dialler(
                allowed=addresses.networks(settings.proxy.allowed_targets),
                own_addresses=own_addresses,
            ),
            tunnels=tunnels,
            metrics=metrics,
            trusted=addresses.networks(settings.proxy.proxy_protocol_from),
            loop_guard=loop_guard,
        )
        listeners = _Listeners(engine, _accepts(own, context, tunnels))
        stack.callback(listeners.close)
        watch = Watch(services)
        metrics.include(watch.metrics)
        stack.push_async_callback(watch.stop)
        following = asyncio.create_task(mirror.run())
        stack.callback(following.cancel)
        if file is not None and worker.slot == 0:
            writer = SnapshotWriter(mirror, partial(connect_to_replica, settings.redis, PROXY), _SERVICES, file, _log)
            stack.push_async_callback(_end, asyncio.create_task(writer.run()))
        master = partial(connect_to_master, settings.redis, PROXY_TUNNELS)
        name = f"{socket.gethostname()}-{os.getpid()}"  # unlike the worker's own, another one on each member of a group
        reporting = asyncio.create_task(report(master, name, tunnels.connected, tunnels.changed))
        stack.push_async_callback(_end, reporting)
        worker.on_peers(lambda: tunnels.set_peers(worker.peers))
        tunnels.set_peers(worker.peers)
        worker.status("waiting for redis")
        await first_of(worker.stopping.wait(), mirror.ready.wait(), beside=[following])
        if worker.stopping.is_set():
            return
        await watch.start()
        # What was read stays: a collection need not look at a million services again and again.
        gc.collect()
        gc.freeze()
        gc.enable()
        gc.set_threshold(*_COLLECT)
        await worker.ready()
        listeners.open(worker.listening)
        worker.on_covering(lambda: listeners.cover(worker.covering))
        listeners.cover(worker.covering)
        worker.status("")
        await first_of(worker.stopping.wait(), beside=[following])
        listeners.close()
        worker.status("waiting for open connections to end")
        await _drain(context, tunnels, settings.proxy.drain_timeout)


class _Listeners:
    """All listeners. ``accepts``: what takes accepted connections, by the endpoint's name."""

    def __init__(self, engine: Engine, accepts: Mapping[str, Accept]) -> None:
        self._engine = engine
        self._accepts = accepts
        self._listeners: list[Listener] = []
        self._covered: dict[socket.socket, Listener] = {}
        """Of other slots, by the socket that was handed in; the listener has a duplicate."""

    def open(self, listening: Sequence[Listening]) -> None:
        """Accept at these sockets, which listen already."""
        self._listeners += map(self._open, listening)

    def cover(self, listening: Sequence[Listening]) -> None:
        """Accept at these sockets of other slots as well, and at no others any more. Connections go on."""
        wanted = {one.socket: one for one in listening}
        for sock in self._covered.keys() - wanted.keys():
            self._covered.pop(sock).close()
        for sock in wanted.keys() - self._covered.keys():
            one = wanted[sock]
            try:
                self._covered[sock] = self._open(replace(one, socket=sock.dup()))
            except OSError as error:  # its own sockets are served all the same
                _log.warning("socket of another worker not served", listen=one.endpoint.address, reason=error.strerror)

    def close(self) -> None:
        """Stop accepting; again is harmless."""
        self.cover(())
        for listener in self._listeners:
            listener.close()

    def _open(self, one: Listening) -> Listener:
        listener = Listener(self._engine, one, self._accepts[one.endpoint.name])
        listener.start()
        return listener


def _accepts(settings: ProxySettings, context: ProxyContext, tunnels: TunnelServer) -> dict[str, Accept]:
    """Errors: ``ConfigError``: a certificate that cannot be used."""

    def visitor(protocol: Protocol, sock: socket.SocketType, source: str) -> None:
        Connection(context, sock, source, protocol).start()

    accepts: dict[str, Accept] = {str(protocol): partial(visitor, protocol) for protocol in Protocol}
    accepts["tunnels"] = partial(_client, tunnels.accept)
    if settings.listen_tunnels_tls:
        tls = server_context(Path(settings.tunnel_certificate), Path(settings.tunnel_key))
        accepts["tunnels_tls"] = partial(_client, partial(tunnels.accept_tls, tls))
    return accepts


def _client(take: Callable[[socket.socket, str], None], accepted: socket.SocketType, source: str) -> None:
    """Tunnels work with sockets of the ordinary class."""
    try:
        sock = ordinary(accepted)
    except OSError as error:
        _log.warning("tunnel client lost", source=source, reason=error.strerror)
    else:
        take(sock, source)


async def _drain(context: ProxyContext, tunnels: TunnelServer, timeout: float) -> None:  # noqa: ASYNC109 - no error at its end
    """Let tunnels move and connections end, for up to ``timeout`` seconds; then cut what is left."""
    deadline = asyncio.get_running_loop().time() + timeout
    moving = asyncio.create_task(tunnels.drain())
    await asyncio.wait([moving], timeout=timeout)
    await context.drain(deadline - asyncio.get_running_loop().time())  # those that a peer had sent here last as well
    await _end(moving)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def of_one_worker(settings: ProxySettings, workers: int) -> ProxySettings:
    """Settings with one worker's part of the limits in total.

    The limits of one source hold in each worker: which one gets its connections, the kernel and its tunnels decide, and
    it is to have as many as the operator allows.
    """
    return msgspec.structs.replace(
        settings,
        max_connections=share(settings.max_connections, workers),
        max_unmatched=share(settings.max_unmatched, workers),
    )


def _old_routes(path: str) -> StaticRoutes:
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


def _mirror_into(table: RouteTable, settings: RedisSettings, file: Path | None) -> Mirror:
    """A mirror that keeps ``table`` as redis is; what cannot be used is logged and is not served."""

    def update(key: bytes, value: object) -> None:
        try:
            table.update(key, value if isinstance(value, bytes) else None)
        except SchemaError as error:
            _log.warning("service skipped", key=key, reason=str(error))

    redis = partial(connect_to_replica, settings, PROXY)
    return Mirror(redis, _SERVICES, update, _log, file=file, hold_for=settings.hold_for)


def _use_all_descriptors() -> None:
    """Raise the soft limit to the hard one: a connection takes two descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
