"""The contract between a data plane and the supervisor of its processes. The planes know this file, never ``workers``.

A plane is served by several **worker** processes, each with a slot of its own: its share of the listening sockets
(SO_REUSEPORT). ``serve(settings, worker)`` is the whole life of one worker, in an event loop of its own::

    async def serve(settings: Settings, worker: WorkerContext) -> None:
        worker.publish(registry)             # figures; summed over all workers on the plane's one /metrics page
        ...load what is to be served...
        await worker.ready()                 # "I can serve": returns when the sockets listen, or when it is to stop
        if not worker.stopping.is_set():
            ...read from / accept at each of worker.listening...
            await worker.stopping.wait()
        ...stop reading and accepting, finish what was begun (the supervisor waits ``Plane.drain`` seconds)...

Rules:
* The sockets in ``worker.listening`` are non-blocking and shared with the supervisor, with the worker's predecessor and
  with its successor. Do not read before ``ready()`` has returned, do not call ``bind``, ``listen`` or ``shutdown``;
  closing one is harmless, since the supervisor keeps it. Options (``setsockopt``) may be set at any time. A worker may
  get several sockets of one endpoint: after a reload that lowers the number of workers, no accept queue is lost.
* At a reload or a switch of the release, the workers of the next **generation** serve the same sockets before
  those of the last drain. Both run for as long as the last ones drain.
* The event loop must turn at least every few seconds: a worker that is silent for ``workers.hang_timeout`` seconds is
  replaced. A worker that ends unasked is replaced too; ``ConfigError`` and other ``GatewayError`` that ``serve`` raises
  before it was ready make the start, or the reload, fail with their text.
* ``worker.runtime`` is a directory that only this plane's processes share: for unix sockets between workers. Name what
  you put there after ``worker.name``, which no other worker ever had or will have, with a suffix
  (``worker.runtime / f"{worker.name}.sock"``): it is removed after the worker's end.
  ``worker.peers`` names the other workers that live, of all generations.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec
from prometheus_client import CollectorRegistry

from tfgateway.settings import Settings


def share(limit: int, workers: int) -> int:
    """One worker's part of a limit; the kernel spreads connections over workers by chance."""
    return -(-limit // workers)


class Endpoint(msgspec.Struct, frozen=True):
    """An address and protocol that a plane listens at."""

    name: str
    """The protocol, in the plane's own terms: ``dns``, ``http``, ``tls`` ..."""
    kind: Literal["tcp", "udp"]
    address: str
    """``ADDRESS:PORT``, IPv6 in brackets."""


@dataclass(frozen=True)
class Listening:
    """A listening socket of a worker."""

    endpoint: Endpoint
    socket: socket.socket


class WorkerContext(Protocol):
    """What a worker gets from its supervisor."""

    @property
    def name(self) -> str:
        """The name of this worker, unique for as long as the plane runs: ``worker-7``."""

    @property
    def slot(self) -> int:
        """The slot of this worker, 0 ... ``workers`` - 1; its successors have the same."""

    @property
    def workers(self) -> int:
        """The number of slots of this generation, which ``share`` what is limited."""

    @property
    def generation(self) -> int:
        """The number of this generation: 1, and one more with each reload."""

    @property
    def runtime(self) -> Path:
        """The private directory of the plane's processes."""

    @property
    def listening(self) -> Sequence[Listening]:
        """The sockets to serve."""

    @property
    def covering(self) -> Sequence[Listening]:
        """Sockets of other slots to serve as well for now: their workers are silent or gone. Closed elsewhere."""

    def on_covering(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever ``covering`` changes. A plane that does not, leaves them to their next worker."""

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the worker has to stop accepting, finish and return."""

    @property
    def peers(self) -> frozenset[str]:
        """Names of the other workers that are running, starting and draining ones included."""

    def on_peers(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever ``peers`` changes."""

    async def ready(self) -> None:
        """Report that this worker can serve; return when its sockets listen, or when ``stopping`` is set."""

    def status(self, text: str) -> None:
        """Set the line for ``systemctl status``; empty: none."""

    def publish(self, registry: CollectorRegistry, *, greatest: Collection[str] = ()) -> None:
        """Publish a registry, once.

        On the plane's page counters and gauges are the sum over workers, but of the families named in ``greatest``
        (as in ``# TYPE``) the page shows the greatest: for what every worker knows alike, as the age of its copy.
        Counters of workers that have ended stay in the sum.
        """


@dataclass(frozen=True)
class Plane:
    """A data plane as its supervisor sees it; the functions are pure and quick."""

    name: str
    """As the command is called: ``dns``."""
    serve: str
    """``module:function``, for workers: ``async def serve(settings: Settings, worker: WorkerContext)``."""
    endpoints: Callable[[Settings], Sequence[Endpoint]]
    workers: Callable[[Settings], int]
    """How many; 0: as many as fit this machine."""
    drain: Callable[[Settings], float]
    """Seconds that a worker may take from ``stopping`` to its end."""
    metrics: Callable[[Settings], str]
    """``ADDRESS:PORT`` of the page."""
    least_workers: int = 1
    """By default; with two of them, each covers the sockets of the other while it is silent or gone."""
    loop: str = "asyncio:new_event_loop"
    """``module:function``, imported by workers only: makes the event loop that ``serve`` runs in."""


Serve = Callable[[Settings, WorkerContext], Awaitable[None]]
