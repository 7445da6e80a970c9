"""What an engine does for ``Database``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol, TypeVar

from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage.connection import DatabaseConnection

_T = TypeVar("_T")


class TransactionKind(Enum):
    """What a connection is for. A client that lists everything must not delay a gateway that waits for one row."""

    WRITE = "write"
    READ = "read"
    """Few rows."""
    SCAN = "scan"
    """Maybe many rows."""


class Changes(Protocol):
    """Notifications between the explorers of one database."""

    recheck: float | None
    """Seconds after which a poll that waits looks for itself; None: no change can get lost."""

    def announce(self, node_id: str) -> None:
        """Have the other explorers look for what is new for a node."""

    async def listening(self) -> None:
        """Return once ``run`` receives."""

    async def run(self, changed: Callable[[str], None], missed: Callable[[], None]) -> None:
        """Call ``changed`` for each node that another one announces, and ``missed`` when some may have got lost."""


class DatabaseEngine(Protocol):
    """All calls but those of the properties may block."""

    @property
    def name(self) -> str:
        """How messages call the database; no secret is in it."""

    @property
    def connections(self) -> Mapping[TransactionKind, int]:
        """How many there may be of each kind."""

    def open(self, new: RegistrationMode) -> RegistrationMode | None:
        """Make what is missing; what the database says of registration. Errors: ``StoreError``.

        new: what a database that is made says.
        """

    def connect(self, kind: TransactionKind) -> Any:
        """A connection of this kind, with ``close``. Errors: ``StoreError``."""

    def transaction(
        self, connection: Any, kind: TransactionKind, work: Callable[[DatabaseConnection], _T], node_id: str
    ) -> _T:
        """Run ``work``; when it raises, nothing has changed. Errors: its own, ``UniqueViolation``, ``StoreError``.

        node_id: see ``Database.read``.
        """

    def apply(self, work: Callable[[DatabaseConnection], _T]) -> _T:
        """Run ``work`` on an existing database, which explorers may serve. Errors: as of ``transaction``."""

    def acknowledge(self) -> int:
        """Go on with a restored database; the new epoch. Errors: ``StoreError``."""

    def problem(self) -> str | None:
        """Why no changes are accepted; None: they are. Does not block."""

    def other_explorers(self) -> int:
        """Connections of other explorers, once it is open. Errors: ``StoreError``."""

    def changes(self) -> Changes:
        """Between the explorers of the database."""

    def close(self) -> None:
        """Once all connections are closed."""
