"""The socket on which the DNS plane asks for keys and hands updates over."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tfgateway.dns.wire import codes
from tfgateway.dns.wire.names import Name, fold
from tfgateway.errors import GatewayError, ParseError, StoreError
from tfgateway.identity import dns_key
from tfgateway.identity.keys import Identity
from tfgateway.ids import Tid
from tfgateway.reconciler.explorer_side.user_keys import UserKeyCache
from tfgateway.reconciler.updates.service import UpdateService
from tfgateway.telemetry.logs import logger
from tfgateway.update_channel import (
    MAX_SIZE,
    MOST_PENDING,
    Answer,
    KeyAnswer,
    KeyQuestion,
    Message,
    MessageReader,
    TransferAnswer,
    TransferQuestion,
    UpdateAnswer,
    UpdateQuestion,
    encode,
)

_log = logger("reconciler")

_PLANE_GROUP: Final = "tfgateway-dns"
"""Of the DNS plane's processes where each plane has a group of its own."""
_CREDENTIALS: Final = struct.Struct("3i")
_MOST_CONNECTIONS: Final = 256
"""Two for each worker, during a reload."""


class UpdateServer:
    """Answers the workers of the DNS plane."""

    def __init__(
        self,
        path: Path,
        identity: Identity,
        service: UpdateService,
        user_keys: UserKeyCache,
        is_user: Callable[[str], bool],
    ) -> None:
        """is_user: whether a decimal tid has a reservation here; only for those the explorer is asked for a key."""
        self._path = path
        self._identity = identity
        self._service = service
        self._user_keys = user_keys
        self._is_user = is_user
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled; where there is no place for the socket, say so and serve nothing."""
        try:
            server = await self._listen()
        except OSError as error:
            _log.error("no DNS updates: the socket cannot be made", path=str(self._path), reason=error.strerror)
            await asyncio.Event().wait()
            return
        try:
            await server.serve_forever()
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            self._path.unlink(missing_ok=True)

    async def _listen(self) -> asyncio.Server:
        """Errors: ``OSError``."""
        self._path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            mask = os.umask(0o177)
            try:
                sock.bind(str(self._path))
            finally:
                os.umask(mask)
            return await asyncio.start_unix_server(self._accepted, sock=sock, limit=MAX_SIZE)
        except OSError:
            sock.close()
            raise

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: socket.socket = writer.get_extra_info("socket")
        if not _is_plane(peer) or len(self._connections) >= _MOST_CONNECTIONS:
            _log.warning("connection for DNS updates refused", open=len(self._connections))
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = MessageReader()
        pending: set[asyncio.Task[None]] = set()
        try:
            while data := await reader.read(MAX_SIZE):
                for message in messages.feed(data):
                    while len(pending) >= MOST_PENDING:
                        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    task = asyncio.create_task(self._answer(message, writer))
                    pending.add(task)
                    task.add_done_callback(pending.discard)
        except (OSError, ParseError) as error:
            _log.warning("connection for DNS updates ended", reason=str(error))
        finally:
            for task in pending:
                task.cancel()
            writer.transport.abort()

    async def _answer(self, message: Message, writer: asyncio.StreamWriter) -> None:
        answer: Answer
        if isinstance(message, KeyQuestion):
            answer = await self._key(message)
        elif isinstance(message, UpdateQuestion):
            user = dns_key.tid_of(message.key, self._identity.node_id)
            if user is None:
                rcode = codes.NOTAUTH
            else:
                rcode = await self._service.update(user, message.mac, message.message)
            answer = UpdateAnswer(message.number, rcode)
        elif isinstance(message, TransferQuestion):
            answer = TransferAnswer(message.number, await self._may_transfer(message))
        else:
            return
        writer.write(encode(answer))
        with contextlib.suppress(OSError):
            await writer.drain()

    async def _key(self, question: KeyQuestion) -> KeyAnswer:
        user = dns_key.tid_of(question.name, self._identity.node_id)
        if user is None or not self._is_user(user):
            return KeyAnswer(question.number)
        tid = Tid(user)
        found = self._user_keys.known.get(tid) or (await self._user_keys.ask([tid])).get(tid, b"")
        if found is None:
            return KeyAnswer(question.number)
        if not found:
            return KeyAnswer(question.number, available=False)
        try:
            secret = dns_key.secret(self._identity.seed, found, user, self._identity.node_id)
        except GatewayError as error:
            _log.warning("no key for DNS updates", user=user, reason=str(error))
            return KeyAnswer(question.number)
        return KeyAnswer(question.number, secret)

    async def _may_transfer(self, question: TransferQuestion) -> bool:
        user = dns_key.tid_of(question.key, self._identity.node_id)
        if user is None:
            return False
        try:
            return await self._service.may_transfer(user, Name(fold(question.zone)))
        except StoreError:
            return False


def _is_plane(peer: socket.socket) -> bool:
    """Whether the process at the other end is the DNS plane, or runs as this one does, or as root."""
    _pid, uid, gid = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid == 0 or gid == os.getgid():
        return True
    with contextlib.suppress(KeyError):
        return bool(gid == grp.getgrnam(_PLANE_GROUP).gr_gid)
    return False
