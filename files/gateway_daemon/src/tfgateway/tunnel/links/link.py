"""A link between two workers of one gateway: messages, and deliveries of visitors and sessions with their descriptors.

Descriptors travel by SCM_RIGHTS (unix(7)). A receiver that has none left gets fewer than were sent (recvmsg(2),
MSG_CTRUNC). So a delivery is answered: its sender keeps its own descriptors until they are taken, and goes on with
them when they are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from tfgateway.errors import ParseError
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.digest import Digest
from tfgateway.tunnel.links.messages import (
    Content,
    DeliveryReply,
    Descriptors,
    Message,
    decode_content,
    decode_message,
    encode,
    sockets_of,
)

_MAX_MESSAGE = 64 * 1024
_SCM_MAX_FD = 253  # of the kernel: no message brings more
_FDS_AT_ONCE = 200
_MAX_ERRORS = 2  # of a link that ends, before it is given up

_log = logger("tunnel")


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
        """How many ``Hello`` messages came: one at the beginning, and one in answer to each ``Draining``."""
        self.answers = False
        """It answers deliveries: a peer of an earlier release does not, and closes what it has sent."""
        self.asked = 0
        """How many ``Draining`` messages were sent."""
        self._sock = sock
        self._received = received
        self._delivered = delivered
        self._lost = lost
        self._descriptors: list[int] = []
        self._cut = False
        """The kernel has left descriptors of the delivery that is coming in out."""
        self._queue: deque[tuple[bytes, Sequence[int], Callable[[bool], object]]] = deque()
        self._unanswered: deque[asyncio.Future[bool]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def behind(self) -> bool:
        """It has not read all that was sent up to the last ``Draining``, or what it sent before is still to come."""
        return self.hellos <= self.asked

    def send(self, message: Message) -> None:
        """Send a message, when the peer has room for it."""
        self._enqueue(encode(message), (), lambda _sent: None)

    async def deliver(self, content: Content, sockets: Sequence[socket.socket]) -> bool:
        """Hand ``sockets`` over, which the caller keeps too. False: the peer has not taken them, and will not."""
        try:
            holder = os.memfd_create("tfgateway-tunnel", os.MFD_CLOEXEC)
        except OSError as error:
            _log.warning("nothing handed over to another worker", peer=self.name, reason=error.strerror)
            return False
        with os.fdopen(holder, "wb") as file:
            try:
                file.write(encode(content))
                file.flush()
            except OSError as error:
                _log.warning("nothing handed over to another worker", peer=self.name, reason=error.strerror)
                return False
            return await self._send_delivery([holder, *(sock.fileno() for sock in sockets)])

    async def _send_delivery(self, descriptors: Sequence[int]) -> bool:
        taken: asyncio.Future[bool] = self._loop.create_future()
        on_its_way = self._loop.create_future()
        for start in range(0, len(descriptors), _FDS_AT_ONCE):
            end = start + _FDS_AT_ONCE
            last = end >= len(descriptors)
            sent = self._resolver(on_its_way) if last else lambda _sent: None
            self._enqueue(encode(Descriptors(last)), descriptors[start:end], sent)
        if self.answers and self._sock.fileno() >= 0:
            self._unanswered.append(taken)
        try:
            return await on_its_way and (not self.answers or await taken)
        except asyncio.CancelledError:
            if not on_its_way.done() or on_its_way.cancelled():
                self.close()  # before another descriptor gets a number that waits to be sent
            raise

    def answered(self, *, taken: bool) -> None:
        """The peer has answered the oldest delivery. Errors: ``ParseError``: there is none."""
        if not self._unanswered:
            raise ParseError("tunnels: an answer to no delivery")
        self._resolver(self._unanswered.popleft())(taken)

    @staticmethod
    def _resolver(future: asyncio.Future[bool]) -> Callable[[bool], None]:
        def resolve(value: bool) -> None:
            if not future.done():
                future.set_result(value)

        return resolve

    def close(self) -> None:
        """Again is harmless."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._read_last_answers()
        self._sock.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        queue, self._queue = self._queue, deque()
        for _, _, sent in queue:
            sent(False)
        while self._unanswered:
            self._resolver(self._unanswered.popleft())(False)
        self._lost(self)

    def _read_last_answers(self) -> None:
        """What the peer has answered so far counts; after ``shutdown`` it cannot answer, and takes nothing."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        errors = 0
        while self._unanswered and errors < _MAX_ERRORS:
            try:
                body, descriptors, _, _ = socket.recv_fds(self._sock, _MAX_MESSAGE, _SCM_MAX_FD)
                for descriptor in descriptors:
                    os.close(descriptor)
                message = decode_message(body)
            except OSError:  # ECONNRESET comes before what can still be read
                errors += 1
            except ParseError:  # the end, or nonsense
                return
            else:
                if isinstance(message, DeliveryReply):
                    self._resolver(self._unanswered.popleft())(message.taken)

    def _enqueue(self, body: bytes, descriptors: Sequence[int], sent: Callable[[bool], object]) -> None:
        """sent: called with True when the kernel has it, with False when the link is gone."""
        if self._sock.fileno() < 0:
            sent(False)
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
            except OSError:  # what was not sent stays with its sender; the two find each other again
                self.close()
                return
            self._queue.popleft()
            sent(True)
        if self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            body, descriptors, flags, _ = socket.recv_fds(
                self._sock, _MAX_MESSAGE, _SCM_MAX_FD, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not body:
            self.close()
            return
        self._descriptors += descriptors
        self._cut = self._cut or bool(flags & socket.MSG_CTRUNC)
        try:
            message = decode_message(body)
            if isinstance(message, Descriptors):
                if message.last:
                    self._open_delivery()
            else:
                self._received(self, message)
        except ParseError as error:
            _log.error("link to another worker closed", peer=self.name, reason=str(error))
            self.close()

    def _open_delivery(self) -> None:
        """Answer first, then take: as long as no answer was sent, the peer goes on with what is in it."""
        sockets, content, refused = self._unpacked()

        def take(sent: bool) -> None:
            if content is not None and sent:
                self._delivered(content, sockets)
                return
            for sock in sockets:
                sock.close()

        if content is None:
            event = "delivery of another worker refused" if self.answers else "delivery of another worker lost"
            _log.error(event, peer=self.name, reason=refused)
            take(False)
        if self.answers:
            self._enqueue(encode(DeliveryReply(content is not None)), (), take)
        elif content is not None:
            take(True)

    def _unpacked(self) -> tuple[list[socket.socket], Content | None, str]:
        """(sockets, content, why there is none) of the delivery that has come in. Errors: ``ParseError``: none has."""
        descriptors, self._descriptors = self._descriptors, []
        cut, self._cut = self._cut, False
        if not descriptors and not cut:
            raise ParseError("tunnels: a delivery without content")
        if cut:
            for descriptor in descriptors:
                os.close(descriptor)
            return [], None, "this worker has not enough descriptors left"
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors[1:]]
        for sock in sockets:
            sock.setblocking(False)
        with os.fdopen(descriptors[0], "rb") as file:
            try:
                file.seek(0)
                content = decode_content(file.read())
            except (OSError, ParseError) as error:
                return sockets, None, str(error)
        if len(sockets) != sockets_of(content):
            return sockets, None, f"{len(sockets)} sockets instead of {sockets_of(content)}"
        return sockets, content, ""
