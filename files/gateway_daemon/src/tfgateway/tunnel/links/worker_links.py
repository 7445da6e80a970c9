"""The links of one worker to the others of its gateway, and which clients each of them has."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.digest import Digest
from tfgateway.tunnel.links.link import Link
from tfgateway.tunnel.links.messages import Content, DeliveryReply, Draining, Have, Hello, Lost, Message

_SUFFIX = ".tunnels"
_HAVE_AT_ONCE = 1000  # digests in one message
_RETRY = 0.05  # seconds until a peer that does not listen yet is asked again
_PAUSE = 0.2  # seconds after an accept that failed
_BACKLOG = 64
_ANSWERED_WITHIN = 1.0  # seconds; a peer answers as soon as its event loop turns

_log = logger("tunnel")


class LinksOwner(Protocol):
    """Uses the links."""

    def connected_since(self) -> dict[Digest, int]:
        """What this worker has: for a new peer."""

    def peer_has(self, digest: Digest, since: int, source: str) -> None:
        """A peer has a client with this secret since then; source: its IP literal, or empty: it is not known."""

    def delivered(self, content: Content, sockets: list[socket.socket]) -> None:
        """A peer handed something over; the sockets are non-blocking and the owner's."""


class WorkerLinks:
    """All links of this worker. Of two workers, the one with the greater name connects."""

    def __init__(self, runtime: Path, name: str, owner: LinksOwner) -> None:
        """``runtime``: directory that only this gateway's workers can enter. Errors: ``OSError``."""
        self.draining = False
        self._runtime = runtime
        self._name = name
        self._owner = owner
        self._links: list[Link] = []
        self._turn = 0
        self._peers: frozenset[str] = frozenset()
        self._met: set[str] = set()
        self._answered = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._path = runtime / f"{name}{_SUFFIX}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        self._listener.listen(_BACKLOG)
        self._resume: asyncio.TimerHandle | None = None
        self._listen()

    def set_peers(self, names: Collection[str]) -> None:
        """The other workers that live now."""
        self._peers = frozenset(names) - {self._name}
        self._met &= self._peers
        if self._retry is not None:
            self._retry.cancel()
        self._connect()

    def holder(self, digest: Digest) -> Link | None:
        """The peer with the newest client with this secret."""
        holders = [link for link in self._links if digest in link.clients]
        return max(holders, key=lambda link: link.clients[digest], default=None)

    @property
    def complete(self) -> bool:
        """Each peer has sent its ``Hello``."""
        return self._met >= self._peers

    def successors(self) -> Iterator[Link]:
        """Peers that stay, one after the other for as long as there are any."""
        while staying := [link for link in self._links if link.hellos and not link.draining]:
            self._turn += 1
            yield staying[self._turn % len(staying)]

    def announce(self, digest: Digest, since: int, source: str) -> None:
        """This worker has a client with this secret, from there."""
        self._send_all(Have({digest: since}, source))

    def retract(self, digest: Digest) -> None:
        """It has none any more."""
        self._send_all(Lost(digest))

    def drain(self) -> None:
        """Announce to the peers that this worker is about to end."""
        self.draining = True
        self._announce_draining()

    async def quiesce(self) -> None:
        """Wait until no peer will hand anything over to this worker that it has not received; ``drain`` came before.

        A peer that hangs, or has a release that does not answer, is not waited for longer than a second.
        """
        self._announce_draining()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWERED_WITHIN):
                while any(link.behind for link in self._links):
                    self._answered.clear()
                    await self._answered.wait()

    def close(self) -> None:
        """Again is harmless."""
        for later in (self._retry, self._resume):
            if later is not None:
                later.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._path.unlink(missing_ok=True)
        for link in list(self._links):
            link.close()

    def _connect(self) -> None:
        self._retry = None
        missing = {name for name in self._peers if name < self._name} - {link.name for link in self._links}
        for name in missing:
            with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
                sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                sock.setblocking(False)
                sock.connect(str(self._runtime / f"{name}{_SUFFIX}"))
                self._linked(sock).name = name
                undo.pop_all()
        if missing - {link.name for link in self._links}:
            self._retry = self._loop.call_later(_RETRY, self._connect)

    def _listen(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor left: the peer stays in the queue
            _log.error("link from another worker not accepted yet", reason=error.strerror)
            self._loop.remove_reader(self._listener.fileno())
            self._resume = self._loop.call_later(_PAUSE, self._listen)
            return
        self._linked(sock)

    def _linked(self, sock: socket.socket) -> Link:
        link = Link(sock, received=self._received, delivered=self._owner.delivered, lost=self._links_remove)
        self._links.append(link)
        link.send(Hello(self._name, self.draining, answers=True))
        for part in _parts(self._owner.connected_since()):
            link.send(Have(part))
        return link

    def _links_remove(self, link: Link) -> None:
        self._links.remove(link)
        self._answered.set()
        if link.name in self._peers and link.name < self._name and self._retry is None and self._listener.fileno() >= 0:
            self._retry = self._loop.call_later(_RETRY, self._connect)

    def _received(self, link: Link, message: Message) -> None:
        match message:
            case Hello(name, draining, answers):
                link.name, link.draining, link.answers = name, draining, answers
                link.hellos += 1
                self._met.add(name)
                self._answered.set()
            case Have(clients, source):
                link.clients.update(clients)
                for digest, since in clients.items():
                    self._owner.peer_has(digest, since, source)
            case Lost(digest):
                link.clients.pop(digest, None)
            case Draining():
                link.draining = True
                link.send(Hello(self._name, self.draining, answers=True))
            case DeliveryReply(taken):
                link.answered(taken=taken)

    def _announce_draining(self) -> None:
        for link in self._links:
            link.asked += 1
        self._send_all(Draining())

    def _send_all(self, message: Message) -> None:
        for link in list(self._links):
            link.send(message)


def _parts(clients: dict[Digest, int]) -> Iterable[dict[Digest, int]]:
    items = list(clients.items())
    for start in range(0, len(items), _HAVE_AT_ONCE):
        yield dict(items[start : start + _HAVE_AT_ONCE])
