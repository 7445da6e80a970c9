"""A worker process: one event loop that runs a plane's ``serve``."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import importlib
import os
import signal
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector

from tfgateway import settings
from tfgateway.errors import ConfigError, GatewayError, ParseError
from tfgateway.plane import Listening, Plane, Serve
from tfgateway.telemetry import logs
from tfgateway.workers.ipc.protocol import (
    Assignment,
    Collect,
    Cover,
    Drain,
    Failed,
    Figures,
    Frames,
    FromWorker,
    Go,
    InheritedSocket,
    Peers,
    Ready,
    Status,
    ToWorker,
    decode_to_worker,
    encode,
)
from tfgateway.workers.metrics.merged import take

CONTROL = "TFGATEWAY_WORKER"
"""Environment variable: descriptor of the channel to the supervisor. Its presence makes a process a worker."""
_HEARTBEAT = 1.0
"""Seconds between two signs of life."""
_READ = 65536


def called() -> bool:
    """Whether a supervisor started this process."""
    return CONTROL in os.environ


def load(plane: Plane) -> Serve:
    """The plane's ``serve``, with all its imports."""
    serve: Serve = _imported(plane.serve)
    return serve


def _imported(name: str) -> Any:
    """``module:function``."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def run(plane: Plane) -> int:
    """Serve until the supervisor says ``Drain``; the exit code."""
    control = socket.socket(fileno=int(os.environ.pop(CONTROL)))
    control.set_inheritable(False)
    faulthandler.enable()  # a worker that hangs is ended by SIGABRT: its log then says where
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor says what to do
    with asyncio.Runner(loop_factory=_imported(plane.loop)) as runner:
        return runner.run(_work(plane, control))


async def _work(plane: Plane, control: socket.socket) -> int:
    reader, writer = await asyncio.open_connection(sock=control)
    channel = _Channel(reader, writer)
    assignment = await channel.receive()
    if not isinstance(assignment, Assignment):
        return 1  # the supervisor has ended already
    try:
        chosen = settings.parse(assignment.config.encode(), assignment.config_name)
        logs.configure(chosen.log)
        async with contextlib.AsyncExitStack() as stack:
            context = ProcessContext(assignment, channel.send)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, context.stop)
            for work in (context.listen(channel), context.heartbeat()):
                task = asyncio.create_task(work)
                stack.callback(task.cancel)
            await load(plane)(chosen, context)
            context.report()  # the last counts
    except GatewayError as error:
        code = 2 if isinstance(error, ConfigError) else 1
        channel.send(Failed(str(error), code))
        return code
    except Exception as error:
        channel.send(Status(f"{type(error).__name__}: {error}"))  # for the report; the log has all of it
        raise
    finally:
        with contextlib.suppress(OSError):
            await writer.drain()
    return 0


class _Channel:
    """Messages over the stream to the supervisor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = Frames()
        self._waiting: list[ToWorker] = []

    async def receive(self) -> ToWorker | None:
        """The next message; None: the supervisor is gone."""
        while not self._waiting:
            try:
                data = await self._reader.read(_READ)
                bodies = list(self._frames.feed(data))
            except (OSError, ParseError):
                return None
            if not data:
                return None
            self._waiting += [message for message in map(decode_to_worker, bodies) if message is not None]
        return self._waiting.pop(0)

    def send(self, message: FromWorker) -> None:
        """Send a message; never blocks, never fails."""
        self._writer.write(encode(message))


class ProcessContext:
    """``tfgateway.plane.WorkerContext`` in a worker process."""

    def __init__(self, assignment: Assignment, send: Callable[[FromWorker], None]) -> None:
        self.name = assignment.name
        self.slot = assignment.slot
        self.generation = assignment.generation
        self.workers = assignment.workers
        self.runtime = Path(assignment.runtime)
        self.listening: Sequence[Listening] = _inherited(assignment.sockets)
        self.covering: Sequence[Listening] = ()
        self._others = {one.slot: _inherited(one.sockets) for one in assignment.others}
        self.stopping = asyncio.Event()
        self.peers: frozenset[str] = frozenset()
        self._send = send
        self._go = asyncio.Event()
        self._peers_changed: Callable[[], None] = lambda: None
        self._covering_changed: Callable[[], None] = lambda: None
        self._registry = CollectorRegistry()
        self._greatest: Collection[str] = ()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._token = 0

    def on_peers(self, changed: Callable[[], None]) -> None:
        """See ``WorkerContext``."""
        self._peers_changed = changed

    def on_covering(self, changed: Callable[[], None]) -> None:
        """See ``WorkerContext``."""
        self._covering_changed = changed

    async def ready(self) -> None:
        """See ``WorkerContext``."""
        self._send(Ready(covers=True))
        await self._go.wait()

    def status(self, text: str) -> None:
        """See ``WorkerContext``."""
        self._send(Status(text))

    def publish(self, registry: CollectorRegistry, *, greatest: Collection[str] = ()) -> None:
        """See ``WorkerContext``."""
        self._registry, self._greatest = registry, greatest

    def stop(self) -> None:
        """Begin to drain; again is harmless."""
        self.stopping.set()
        self._go.set()
        self._cover(())
        for sockets in self._others.values():  # as long as they are open here, their address is in use
            for one in sockets:
                one.socket.close()
        self._others.clear()

    def _cover(self, slots: Collection[int]) -> None:
        self.covering = [one for slot in slots for one in self._others.get(slot, ())]
        self._covering_changed()

    def report(self) -> None:
        """Send the current metrics, which are also the sign that this process lives."""
        self._send(Figures(take(self._registry, self._greatest) + take(self._process), self._token))

    async def heartbeat(self) -> None:
        """Report regularly, from the event loop itself: when it hangs, the supervisor receives nothing."""
        while True:
            self.report()
            await asyncio.sleep(_HEARTBEAT)

    async def listen(self, channel: _Channel) -> None:
        """Handle the supervisor's messages; without a supervisor, drain."""
        while (message := await channel.receive()) is not None:
            match message:
                case Go():
                    self._go.set()
                case Collect(token):
                    self._token = token
                    self.report()
                case Peers(names):
                    self.peers = frozenset(names) - {self.name}
                    self._peers_changed()
                case Cover(slots):
                    self._cover(slots)
                case Drain():
                    self.stop()
                case Assignment():
                    pass
        self.stop()


def _inherited(sockets: Iterable[InheritedSocket]) -> list[Listening]:
    found = []
    for one in sockets:
        sock = socket.socket(fileno=one.fd)
        sock.setblocking(False)
        sock.set_inheritable(False)
        found.append(Listening(one.endpoint, sock))
    return found
