"""PostgreSQL behind ``Database``: repeats transactions where that is safe, and finds the server after a failover."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tfgateway.errors import ConfigError, StoreError
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage import settings
from tfgateway.explorer.server.storage.connection import CommitOutcomeUnknown, DatabaseConnection, UniqueViolation
from tfgateway.explorer.server.storage.engines.engine import TransactionKind
from tfgateway.explorer.server.storage.engines.given_ids import GivenIds
from tfgateway.explorer.server.storage.engines.postgresql import schema
from tfgateway.explorer.server.storage.engines.postgresql.connection import PostgresqlConnection, reason
from tfgateway.explorer.server.storage.engines.postgresql.notifications import LISTENER, Notifications
from tfgateway.telemetry.text import printable

_ATTEMPTS = 5
_PAUSE = 0.01  # seconds, before a transaction that another one was in the way of is repeated
_SCHEMA, _TABLES = "schema", "tables"
_DEFAULTS = MappingProxyType(
    {
        "application_name": "tfgateway-explorer",
        "target_session_attrs": "read-write",
        "connect_timeout": "3",
        # A server that has vanished is noticed after ten seconds.
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "tcp_user_timeout": "10000",
    }
)
_T = TypeVar("_T")


class PostgresqlEngine:
    """A database of PostgreSQL 14 or newer, which exists."""

    connections = MappingProxyType({TransactionKind.WRITE: 6, TransactionKind.READ: 4, TransactionKind.SCAN: 2})

    def __init__(self, url: str, ids: Path | None = None) -> None:
        """url: of libpq (``postgresql://HOST,HOST/DATABASE?...``), or its key words.

        ids: see ``GivenIds``. Errors: ``ConfigError``.
        """
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
        except psycopg.Error as error:
            # It may repeat the URL, with its password.
            raise ConfigError("the URL of the database is not one of PostgreSQL") from error
        self.conninfo = make_conninfo("", **{**_DEFAULTS, **given})
        host, database = (printable(given.get(name, "")) for name in ("host", "dbname"))
        self._name = f"postgresql://{host}/{database}"
        self._given_ids = GivenIds(ids, self._name)

    @property
    def name(self) -> str:
        """Hosts and database."""
        return self._name

    def open(self, new: RegistrationMode) -> RegistrationMode | None:
        """Make what is missing; what the database says of registration. Errors: ``StoreError``."""
        with closing(self.connect(TransactionKind.WRITE)) as connection:
            return self.transaction(connection, TransactionKind.WRITE, lambda _: self._prepare(connection, new), "")

    def connect(self, kind: TransactionKind) -> PostgresqlConnection:
        """A connection that opens itself."""
        return PostgresqlConnection(self.conninfo, self._name, kind, self._given_ids)

    def transaction(
        self,
        connection: PostgresqlConnection,
        kind: TransactionKind,
        work: Callable[[DatabaseConnection], _T],
        node_id: str,
    ) -> _T:
        """Run ``work``, again when another transaction was in its way or the connection was lost before the end.

        Errors: its own, ``UniqueViolation``, ``StoreError``, ``CommitOutcomeUnknown``: it may have been written.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._once(connection, work, node_id)
            except errors.UniqueViolation as error:
                raise UniqueViolation(reason(error)) from error
            except (errors.SerializationFailure, errors.DeadlockDetected) as error:
                self._give_up(attempt, _ATTEMPTS, error)
                time.sleep(_PAUSE * attempt)
            except psycopg.Error as error:
                lost = connection.lost(error)
                if lost and connection.committing and not isinstance(error, errors.ReadOnlySqlTransaction):
                    raise CommitOutcomeUnknown(
                        f"{self._name}: whether it was written is not known: {reason(error)}"
                    ) from error
                # The first attempt finds out that the server has gone, the second one asks the new one.
                self._give_up(attempt, 2 if lost else 0, error)
        raise AssertionError("the last attempt has raised")

    def apply(self, work: Callable[[DatabaseConnection], _T]) -> _T:
        """Run ``work`` on a database that has the explorer's tables. Errors: as of ``transaction``."""
        with closing(self.connect(TransactionKind.WRITE)) as connection:
            return self.transaction(connection, TransactionKind.WRITE, work, "")

    def acknowledge(self) -> int:
        """Go on with a restored database; the new epoch. Errors: ``StoreError``."""
        return self.apply(lambda connection: self._given_ids.acknowledge(connection, _origin(connection)))

    def problem(self) -> str | None:
        """Whether it was found to be restored."""
        return self._given_ids.problem

    def other_explorers(self) -> int:
        """By the name of those that listen."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = ?"
        return int(self.apply(lambda connection: connection.execute(query, (LISTENER,)).fetchone()[0]))

    def changes(self) -> Notifications:
        """Between the explorers of the database."""
        return Notifications(self.conninfo, self._name, self._given_ids)

    def close(self) -> None:
        """Remember what was given out."""
        self._given_ids.save()

    def _once(self, connection: PostgresqlConnection, work: Callable[[DatabaseConnection], _T], node_id: str) -> _T:
        try:
            connection.begin(node_id)
            result = work(connection)
            connection.commit()
            self._given_ids.given(connection.drawn)
        except BaseException:
            connection.rollback()
            raise
        return result

    def _give_up(self, attempt: int, most: int, error: psycopg.Error) -> None:
        if attempt >= most:
            raise StoreError(f"{self._name}: {reason(error)}") from error

    def _prepare(self, connection: PostgresqlConnection, new: RegistrationMode) -> RegistrationMode | None:
        connection.lock("schema")  # replicas start at the same time
        encoding = connection.execute("SHOW server_encoding").fetchone()[0]
        if encoding != "UTF8":
            raise StoreError(f"{self._name}: its encoding is {encoding}: make the database with ENCODING 'UTF8'")
        made = connection.execute("SELECT to_regclass('setting')").fetchone()[0] is None
        if not made and (version := settings.find(connection, _SCHEMA)) != str(schema.VERSION):
            raise StoreError(f"{self._name}: written by another version ({version}) of the explorer")
        if made or settings.find(connection, _TABLES) != schema.DIGEST:
            # Not at each start: it locks the tables that the other replicas use.
            connection.script(schema.TABLES)
            settings.replace(connection, _TABLES, schema.DIGEST)
        if made:
            settings.add(connection, _SCHEMA, str(schema.VERSION))
            settings.write_new(connection, new)
        self._given_ids.compare(connection, _origin(connection))
        return settings.registration(connection, self._name)


def _origin(connection: DatabaseConnection) -> str:
    """Of the server's files, which a standby shares, and of the database among them."""
    cluster = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()[0]
    database = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()[0]
    return f"{cluster} {database}"
