"""The database behind threads: the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tfgateway.errors import StoreError
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage import settings
from tfgateway.explorer.server.storage.connection import DatabaseConnection
from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine, TransactionKind

_MOST_CALLS = {TransactionKind.READ: 10_000, TransactionKind.SCAN: 1000, TransactionKind.WRITE: 1000}
"""That run or wait. Those of clients that have gone are among them: a change that has begun is finished."""
_STUCK = 5.0  # seconds: as when the standby that a commit waits for is away
_T = TypeVar("_T")


class Database:
    """Runs functions of a connection, each in a transaction of its own, in threads.

    When too many wait, as while a standby is away, further ones fail at once with ``StoreError``.
    """

    def __init__(self, engine: DatabaseEngine, registration: RegistrationMode = RegistrationMode.CLOSED) -> None:
        """registration: what is recorded in a new database."""
        self._engine = engine
        self._new = registration
        self._registration: RegistrationMode | None = None
        self._pools = {kind: _Pool(engine, kind) for kind in TransactionKind}

    @property
    def registration(self) -> RegistrationMode | None:
        """What is recorded in the database; None: a release made it that knew no choice, or it is not open."""
        return self._registration

    def calls(self, kind: TransactionKind) -> int:
        """How many calls of this kind run or wait."""
        return self._pools[kind].calls

    def problem(self) -> str | None:
        """Why changes cannot be written now, as far as it is known; None: they can."""
        if self._pools[TransactionKind.WRITE].longest > _STUCK:
            return "a change has been waiting for the database"
        return self._engine.problem()

    async def open(self) -> None:
        """Create or open it. Errors: ``StoreError``."""
        self._registration = await asyncio.to_thread(self._engine.open, self._new)
        if source := await self.read(lambda connection: settings.find(connection, settings.INCOMPLETE)):
            await self.close()
            raise StoreError(f"{self._engine.name}: is not filled from {source} yet: run `explorer migrate` to its end")

    async def close(self) -> None:
        """Finish all pending work, then close."""
        # The last one to close tidies up an SQLite file, and has to be allowed to write.
        for kind in (TransactionKind.SCAN, TransactionKind.READ, TransactionKind.WRITE):
            await self._pools[kind].close()
        await asyncio.to_thread(self._engine.close)

    async def read(self, work: Callable[[DatabaseConnection], _T], *, node_id: str = "") -> _T:
        """Run ``work``, which reads few rows, on one state of the data: all that was written before.

        node_id: whose rows it looks for; it sees those with all ids up to the table's ``last_id``. Errors: its own,
        ``StoreError``.
        """
        return await self._pools[TransactionKind.READ].run(work, node_id)

    async def scan(self, work: Callable[[DatabaseConnection], _T]) -> _T:
        """As ``read``, for work that may look at many rows."""
        return await self._pools[TransactionKind.SCAN].run(work)

    async def write(self, work: Callable[[DatabaseConnection], _T]) -> _T:
        """Run ``work`` durably; when it raises, nothing has changed.

        Errors: its own, ``UniqueViolation``, ``StoreError``, ``CommitOutcomeUnknown``: it may have changed.
        """
        return await self._pools[TransactionKind.WRITE].run(work)


class _Pool:
    """Connections of one kind, and as many threads that use them."""

    def __init__(self, engine: DatabaseEngine, kind: TransactionKind) -> None:
        self._engine = engine
        self._kind = kind
        self._threads = ThreadPoolExecutor(engine.connections[kind], thread_name_prefix=f"database-{kind.value}")
        self._idle: list[Any] = []
        self._begun: dict[object, float] = {}

    @property
    def calls(self) -> int:
        """How many run or wait."""
        return len(self._begun)

    @property
    def longest(self) -> float:
        """For how many seconds the oldest call has been waiting or running; 0: there is none."""
        return time.monotonic() - next(iter(self._begun.values())) if self._begun else 0.0

    async def run(self, work: Callable[[DatabaseConnection], _T], node_id: str = "") -> _T:
        if len(self._begun) >= _MOST_CALLS[self._kind]:
            raise StoreError(f"{self._engine.name}: {len(self._begun)} requests wait for it")
        call = object()
        self._begun[call] = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work, node_id)
        finally:
            del self._begun[call]

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        while self._idle:
            self._idle.pop().close()

    def _run(self, work: Callable[[DatabaseConnection], _T], node_id: str) -> _T:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._engine.connect(self._kind)
        try:
            return self._engine.transaction(connection, self._kind, work, node_id)
        finally:
            self._idle.append(connection)
