"""Keeps serials across restarts, in a redis hash of this plane's own. Without redis they live on in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from tfgateway.dns.serial import SerialBook
from tfgateway.errors import LayoutError, StoreError
from tfgateway.layout.connection import store_errors
from tfgateway.layout.keys import SERIALS
from tfgateway.layout.serials import Issued, decode_issued, encode_issued

_GATHER = 0.2
"""Seconds for which changed serials are gathered before they are saved."""


class SerialStore:
    """Reads the book's serials once and saves what changes."""

    def __init__(self, connect: Callable[[], Redis], log: FilteringBoundLogger, retry_after: float = 1.0) -> None:
        """connect: makes a client, which is closed here. retry_after: seconds after redis could not be reached."""
        self._connect = connect
        self._log = log
        self._retry_after = retry_after
        self._unsaved = asyncio.Event()
        self._restored = False
        self.book = SerialBook(self._unsaved.set)

    async def restore(self) -> None:
        """Fill the book, when that was not done yet. Errors: ``StoreError``."""
        if self._restored:
            return
        async with self._connect() as client:
            with store_errors():
                saved: Any = await client.hgetall(SERIALS)
        serials: dict[bytes, Issued] = {}
        for key, raw in saved.items():
            try:
                serials[key] = decode_issued(raw)
            except LayoutError as error:
                self._log.warning("damaged serial skipped", zone=key, reason=str(error))
        self.book.restore(serials)
        self._restored = True

    async def run(self) -> NoReturn:
        """Save what changes, until cancelled."""
        async with self._connect() as client:
            while True:
                await self._unsaved.wait()
                # One write for many changes; a serial that is lost meanwhile is followed by a newer one all the same.
                await asyncio.sleep(_GATHER)
                self._unsaved.clear()
                changes = self.book.take_unsaved()
                try:
                    with store_errors():
                        await self._save(client, changes)
                except StoreError:
                    self.book.give_back(changes.keys())
                    await asyncio.sleep(self._retry_after)
                    self._unsaved.set()

    async def _save(self, client: Redis, changes: dict[bytes, Issued | None]) -> None:
        issued = {key: encode_issued(value) for key, value in changes.items() if value is not None}
        removed = [key for key, value in changes.items() if value is None]
        if issued:
            await client.hset(SERIALS, mapping=issued)  # type: ignore[arg-type]
        if removed:
            await client.hdel(SERIALS, *removed)
