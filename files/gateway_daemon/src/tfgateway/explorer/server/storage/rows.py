"""Typed access to the rows of all tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from tfgateway import gojson
from tfgateway.errors import GatewayError
from tfgateway.explorer import wire
from tfgateway.explorer.models import Farm, Gateway, NextAction, Pool, ResultState, User, Workload, parse_workload
from tfgateway.explorer.server.storage import tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_MOST_IN_USE = 10_000


class NotFound(GatewayError):
    """No row has this id."""


def read(body: bytes, kind: type[_Struct]) -> _Struct:
    """An object that this server has written."""
    return wire.decode(gojson.decode(body), kind)


def user(connection: DatabaseConnection, tid: int, *, for_update: bool = False) -> User:
    """One user; 0 is nobody (E-5). Errors: ``NotFound``.

    for_update, here and below: the caller changes the row depending on what it is.
    """
    return read(_found(_find(for_update)(connection, "user", id=tid)), User)


def farm(connection: DatabaseConnection, farm_id: int, *, for_update: bool = False) -> Farm:
    """One farm. Errors: ``NotFound``."""
    return read(_found(_find(for_update)(connection, "farm", id=farm_id)), Farm)


def gateway(connection: DatabaseConnection, node_id: str, *, for_update: bool = False) -> Gateway | None:
    """One gateway, None when it is not registered."""
    body = _find(for_update)(connection, "gateway", node_id=node_id)
    return None if body is None else read(body, Gateway)


def pool(connection: DatabaseConnection, pool_id: int) -> Pool | None:
    """One pool; ``with_use`` adds the workloads that use it."""
    body = tables.find(connection, "pool", id=pool_id)
    return None if body is None else read(body, Pool)


def with_use(connection: DatabaseConnection, pool: Pool) -> Pool:
    """The pool with the ids of the workloads that run in it, the first ten thousand."""
    query = "SELECT id FROM workload WHERE pool_id = ? AND active = 1 ORDER BY id LIMIT ?"
    rows = connection.execute(query, (pool.pool_id, _MOST_IN_USE))
    return msgspec.structs.replace(pool, active_workload_ids=tuple(row[0] for row in rows))


def workload(connection: DatabaseConnection, workload_id: int, *, for_update: bool = False) -> Workload:
    """One workload. Errors: ``NotFound``."""
    return parse_workload(gojson.decode(_found(_find(for_update)(connection, "workload", id=workload_id))))


def add_workload(connection: DatabaseConnection, workload: Workload) -> None:
    """A new workload; its id comes from ``next_workload_id`` in the same transaction."""
    body = wire.encode(workload)
    tables.insert(connection, "workload", id=workload.id, body=body, **_columns(workload))


def next_workload_id(connection: DatabaseConnection) -> int:
    """A new id, of all types and nodes; the transaction has locked the node."""
    return connection.next_id("workload")


def change_workload(connection: DatabaseConnection, workload: Workload) -> None:
    """Write a changed workload."""
    tables.update(connection, "workload", workload.id, body=wire.encode(workload), **_columns(workload))


def enqueue(connection: DatabaseConnection, workload: Workload) -> None:
    """Have this copy delivered with every poll until the node has answered; a later copy replaces an earlier one."""
    dequeue(connection, workload.id)
    tables.insert(connection, "queue", id=workload.id, node_id=workload.node_id, body=wire.encode(workload))


def dequeue(connection: DatabaseConnection, workload_id: int) -> None:
    """Drop the queued copy: the node has answered."""
    connection.execute("DELETE FROM queue WHERE id = ?", (workload_id,))


def _columns(workload: Workload) -> dict[str, int | str | bytes]:
    live = workload.next_action in (NextAction.DEPLOY, NextAction.DELETE)
    return {
        "node_id": workload.node_id,
        "customer_tid": workload.customer_tid,
        "pool_id": workload.pool_id,
        "workload_type": workload.workload_type,
        "next_action": workload.next_action,
        "active": int(live and workload.result.state == ResultState.OK),
    }


def _find(for_update: bool) -> Callable[..., bytes | None]:
    return tables.find_for_update if for_update else tables.find


def _found(body: bytes | None) -> bytes:
    if body is None:
        raise NotFound("no row has this id")
    return body
