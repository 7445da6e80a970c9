"""Changes of nodes between the explorers of one database, by LISTEN and NOTIFY.

A change is sent after it is committed, by a connection of its own: PostgreSQL lets one transaction with a NOTIFY commit
at a time, and the standby would be waited for in each. What is lost between the two, or while a connection is down, is
found by the poll itself (``recheck``) and after each reconnection (``missed``).
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable
from typing import Any

import psycopg

from tfgateway.aio import Backoff, together
from tfgateway.explorer.server.storage.engines.given_ids import GivenIds
from tfgateway.explorer.server.storage.engines.postgresql.connection import reason
from tfgateway.telemetry.logs import logger

_CHANNEL = "tfgateway_explorer"
LISTENER = "tfgateway-explorer-listener"
"""By this name the connections of explorers that run are known."""
_TABLE = "workload"  # of which most ids are given out
_MOST = 100  # nodes in one notification, of which PostgreSQL takes 8000 bytes
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_log = logger("explorer")


class Notifications:
    """Sends and receives, each on a connection that comes back by itself."""

    recheck: float | None = 10.0

    def __init__(self, conninfo: str, name: str, given_ids: GivenIds) -> None:
        """name: how messages call the database. given_ids: each replica knows those of all."""
        self._conninfo = conninfo
        self._name = name
        self._given_ids = given_ids
        # Our own come back, too: who waits here was woken before.
        self._replica = uuid.uuid4().hex
        self._pending: set[str] = set()
        self._wanted = asyncio.Event()
        self._listening = asyncio.Event()

    def announce(self, node_id: str) -> None:
        """Have the other explorers look for what is new for a node."""
        self._pending.add(node_id)
        self._wanted.set()

    async def listening(self) -> None:
        """Return once ``run`` receives."""
        await self._listening.wait()

    async def run(self, changed: Callable[[str], None], missed: Callable[[], None]) -> None:
        """Call ``changed`` for each node that another explorer announces, ``missed`` when some may have got lost."""
        # No TaskGroup: psycopg waits by ``wait_for``, which can lose a cancellation (Python < 3.12).
        await together(
            self._keep_connected(lambda connection: self._receive(connection, changed, missed)),
            self._keep_connected(self._send),
        )

    async def _keep_connected(self, use: Callable[[psycopg.AsyncConnection[Any]], Any]) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, application_name=LISTENER
                ) as connection:
                    backoff.succeeded()
                    await use(connection)
            except psycopg.Error as error:
                _log.warning("no notifications", database=self._name, reason=reason(error))
            await asyncio.sleep(backoff.failed())

    async def _receive(
        self, connection: psycopg.AsyncConnection[Any], changed: Callable[[str], None], missed: Callable[[], None]
    ) -> None:
        await connection.execute(f"LISTEN {_CHANNEL}".encode())
        if self._listening.is_set():
            missed()
        self._listening.set()
        async for notification in connection.notifies():
            replica, last, *nodes = notification.payload.split(" ")
            if replica != self._replica:
                self._given_ids.note({_TABLE: int(last)})
                for node_id in nodes:
                    changed(node_id)

    async def _send(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            while self._pending:
                nodes = list(itertools.islice(self._pending, _MOST))
                self._pending.difference_update(nodes)
                try:
                    payload = " ".join([self._replica, str(self._given_ids.last(_TABLE)), *nodes])
                    await connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, payload))
                except psycopg.Error:
                    self._pending.update(nodes)
                    raise
            await self._wanted.wait()
            self._wanted.clear()
