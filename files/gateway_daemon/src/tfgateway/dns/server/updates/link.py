"""The connection of a worker to the reconciler's socket: questions out, answers back, any number at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from tfgateway.errors import ParseError
from tfgateway.update_channel import MAX_SIZE, MOST_PENDING, Answer, Message, MessageReader, Question, encode

_PATIENCE: Final = 5.0
"""Seconds for an answer: resolvers and clients wait no longer."""


class ReconcilerLink:
    """Connects when it is first asked, and again after the reconciler was away."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._numbers = itertools.count(1)
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, question: Callable[[int], Question]) -> Answer:
        """The answer to what ``question`` makes of a number. Errors: ``OSError``, ``TimeoutError`` among them."""
        if len(self._waiting) >= MOST_PENDING:
            raise ConnectionError("too many questions wait for the reconciler")
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(_PATIENCE):
                writer = await self._connected()
                writer.write(encode(question(number)))
                await writer.drain()
                return await answer
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        """End the connection; what waits for an answer gets an error."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None:
                reader, self._writer = await asyncio.open_unix_connection(self._path, limit=MAX_SIZE)
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = MessageReader()
        try:
            while data := await reader.read(MAX_SIZE):
                for message in messages.feed(data):
                    self._take(message)
        except (OSError, ParseError):
            pass  # as when it ends
        finally:
            writer.transport.abort()
            self._writer = None
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the reconciler ended the connection"))

    def _take(self, message: Message) -> None:
        answer = self._waiting.get(message.number)
        if answer is not None and not answer.done():
            answer.set_result(message)  # type: ignore[arg-type]  # the reconciler asks nothing
