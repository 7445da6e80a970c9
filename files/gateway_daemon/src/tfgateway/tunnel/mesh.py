"""Links between the workers of one gateway: each knows which of them has whose client, and visitors and sessions are
handed over with their descriptors (unix(7), SCM_RIGHTS)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tfgateway.errors import ParseError
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.messages import (
    Content,
    Draining,
    Have,
    Hello,
    Lost,
    Message,
    Parcel,
    decode_content,
    decode_message,
    encode,
)
from tfgateway.tunnel.registry import Digest

_SUFFIX = ".tunnels"
_MAX_MESSAGE = 64 * 1024
_HAVE_AT_ONCE = 1000  # digests in one message
_FDS_AT_ONCE = 200  # below the kernel's SCM_MAX_FD
_RETRY = 0.05  # seconds until a peer that does not listen yet is asked again
_BACKLOG = 64
_ANSWERED_WITHIN = 1.0  # seconds; a peer answers as soon as its event loop turns

_log = logger("tunnel")


class Owner(Protocol):
    """Whoever uses the mesh."""

    def held(self) -> dict[Digest, int]:
        """What this worker has: for a new peer."""

    def peer_has(self, digest: Digest, since: int) -> None:
        """A peer has a client with this secret since then."""

    def delivered(self, content: Content, sockets: list[socket.socket]) -> None:
        """A peer handed something over; the sockets are non-blocking and the owner's."""


class Link:
    """A connection to one peer. Messages arrive whole and in order."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        received: Callable[[Link, Message], None],
        delivered: Callable[[Content, list[socket.socket]], None],
        lost: Callable[[Link], None],
    ) -> None:
        sock.setblocking(False)
        self.name = ""
        self.draining = False
        self.clients: dict[Digest, int] = {}
        self.hellos = 0
        """How often the peer has said who it is: at the beginning, and in answer to each ``Draining``."""
        self.asked = 0
        """How often it was told ``Draining``."""
        self._sock = sock
        self._received = received
        self._delivered = delivered
        self._lost = lost
        self._descriptors: list[int] = []
        self._queue: deque[tuple[bytes, Sequence[int], asyncio.Future[bool] | None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def behind(self) -> bool:
        """It has not read all that it was told up to the last ``Draining``, or what it sent before is still to come."""
        return self.hellos <= self.asked

    def tell(self, message: Message) -> None:
        """Send a message, when the peer has room for it."""
        self._enqueue(encode(message), (), None)

    async def deliver(self, content: Content, sockets: Sequence[socket.socket]) -> bool:
        """Hand ``sockets`` over; False: the peer is gone. The caller closes them in either case."""
        body = encode(content)
        sent: asyncio.Future[bool] = self._loop.create_future()
        holder = os.memfd_create("tfgateway-tunnel", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(holder), "wb") as file:
                file.write(body)
            descriptors = [holder, *(sock.fileno() for sock in sockets)]
            for start in range(0, len(descriptors), _FDS_AT_ONCE):
                end = start + _FDS_AT_ONCE
                last = end >= len(descriptors)
                self._enqueue(encode(Parcel(last)), descriptors[start:end], sent if last else None)
            return await sent
        finally:
            os.close(holder)

    def close(self) -> None:
        """Again is harmless."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        for _, _, future in self._queue:
            if future is not None and not future.done():
                future.set_result(False)
        self._queue.clear()
        self._lost(self)

    def _enqueue(self, body: bytes, descriptors: Sequence[int], sent: asyncio.Future[bool] | None) -> None:
        if self._sock.fileno() < 0:
            if sent is not None:
                sent.set_result(False)
            return
        self._queue.append((body, descriptors, sent))
        if len(self._queue) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._queue:
            body, descriptors, sent = self._queue[0]
            try:
                socket.send_fds(self._sock, [body], list(descriptors))
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:
                self.close()
                return
            self._queue.popleft()
            if sent is not None and not sent.done():
                sent.set_result(True)
        self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            body, descriptors, _, _ = socket.recv_fds(self._sock, _MAX_MESSAGE, _FDS_AT_ONCE, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not body:
            self.close()
            return
        self._descriptors += descriptors
        try:
            message = decode_message(body)
            if isinstance(message, Parcel):
                if message.last:
                    self._open_delivery()
            else:
                self._received(self, message)
        except ParseError as error:
            _log.error("link to another worker closed", peer=self.name, reason=str(error))
            self.close()

    def _open_delivery(self) -> None:
        descriptors, self._descriptors = self._descriptors, []
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors[1:]]
        try:
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                content = decode_content(file.read())
        except (ParseError, IndexError):
            for sock in sockets:
                sock.close()
            raise ParseError("tunnels: a delivery without content") from None
        for sock in sockets:
            sock.setblocking(False)
        self._delivered(content, sockets)


class Mesh:
    """All links of this worker. Of two workers, the one whose name is greater connects."""

    def __init__(self, runtime: Path, name: str, owner: Owner) -> None:
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
        self._loop.add_reader(self._listener.fileno(), self._accept)

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
        """Each peer has been heard of."""
        return self._met >= self._peers

    def successors(self) -> Iterator[Link]:
        """Peers that stay, one after the other for as long as there are any."""
        while staying := [link for link in self._links if link.hellos and not link.draining]:
            self._turn += 1
            yield staying[self._turn % len(staying)]

    def announce(self, digest: Digest, since: int) -> None:
        """This worker has a client with this secret."""
        self._tell_all(Have({digest: since}))

    def retract(self, digest: Digest) -> None:
        """It has none any more."""
        self._tell_all(Lost(digest))

    def drain(self) -> None:
        """Tell the peers that this worker is about to end."""
        self.draining = True
        self._tell_draining()

    async def settled(self) -> None:
        """Wait until no peer will hand anything over to this worker that it has not received; ``drain`` came before.

        A peer that hangs, or whose release does not answer, is not waited for longer than a second.
        """
        self._tell_draining()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWERED_WITHIN):
                while any(link.behind for link in self._links):
                    self._answered.clear()
                    await self._answered.wait()

    def close(self) -> None:
        """Again is harmless."""
        if self._retry is not None:
            self._retry.cancel()
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
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.setblocking(False)
            try:
                sock.connect(str(self._runtime / f"{name}{_SUFFIX}"))
            except OSError:
                sock.close()
            else:
                self._linked(sock).name = name
        if missing - {link.name for link in self._links}:
            self._retry = self._loop.call_later(_RETRY, self._connect)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            self._linked(self._listener.accept()[0])

    def _linked(self, sock: socket.socket) -> Link:
        link = Link(sock, received=self._received, delivered=self._owner.delivered, lost=self._links_remove)
        self._links.append(link)
        link.tell(Hello(self._name, self.draining))
        for part in _parts(self._owner.held()):
            link.tell(Have(part))
        return link

    def _links_remove(self, link: Link) -> None:
        self._links.remove(link)
        self._answered.set()
        if link.name in self._peers and link.name < self._name and self._retry is None and self._listener.fileno() >= 0:
            self._retry = self._loop.call_later(_RETRY, self._connect)

    def _received(self, link: Link, message: Message) -> None:
        match message:
            case Hello(name, draining):
                link.name, link.draining = name, draining
                link.hellos += 1
                self._met.add(name)
                self._answered.set()
            case Have(clients):
                link.clients.update(clients)
                for digest, since in clients.items():
                    self._owner.peer_has(digest, since)
            case Lost(digest):
                link.clients.pop(digest, None)
            case Draining():
                link.draining = True
                link.tell(Hello(self._name, self.draining))

    def _tell_draining(self) -> None:
        for link in self._links:
            link.asked += 1
        self._tell_all(Draining())

    def _tell_all(self, message: Message) -> None:
        for link in list(self._links):
            link.tell(message)


def _parts(clients: dict[Digest, int]) -> Iterable[dict[Digest, int]]:
    items = list(clients.items())
    for start in range(0, len(items), _HAVE_AT_ONCE):
        yield dict(items[start : start + _HAVE_AT_ONCE])
