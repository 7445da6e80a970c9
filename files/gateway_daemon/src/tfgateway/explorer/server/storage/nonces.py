"""Nonces of bound signatures, kept for as long as those signatures are valid: none is accepted twice (E-2).

A registered gateway or user has room for ``MOST`` of them. When it is full, its oldest make room and every signature
that is not newer than those is refused from then on, so that nothing can be repeated and new requests always pass.
Gateways that are not registered share one such room: anybody can make up their keys, so there the oldest are forgotten.
When there are more than ``MOST_OF_ALL``, the key that has most makes room.

Each request costs the same, however many there are: they are found by index, and triggers of the database count them
by key.
"""

from __future__ import annotations

from tfgateway.errors import GatewayError
from tfgateway.explorer.server.storage import tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection, key_lock

MOST = 10_000
MOST_OF_ALL = 100_000
_MADE_FREE = 1_000
_PRUNED = 100  # a request, at most: they grow by one each
_SHARED = ""  # the key id under which those of unregistered gateways are kept
# Under key ids that begin with an asterisk, which are none, all are counted.
_NUMBERS = """
SELECT (SELECT number FROM nonce_count WHERE key_id = ?),
  (SELECT sum(number) FROM nonce_count WHERE key_id >= '*' AND key_id < '+')
"""
_LOOKED_UP = """
SELECT
  EXISTS (SELECT 1 FROM nonce WHERE key_id = ? AND nonce = ?)
    OR EXISTS (SELECT 1 FROM nonce WHERE key_id = ? AND nonce = ?),
  (SELECT created FROM nonce_floor WHERE key_id = ?),
  EXISTS (SELECT 1 FROM gateway WHERE node_id = ?)
"""
_LARGEST = "SELECT key_id, number FROM nonce_count WHERE key_id < '*' OR key_id >= '+' ORDER BY number DESC LIMIT 1"


class Repeated(GatewayError):
    """The nonce was used before, or may have been."""


def use(connection: DatabaseConnection, key_id: str, nonce: str, created: int, *, oldest: int) -> None:
    """Use up ``nonce`` of ``key_id``, whose signature was made at ``created``; none before ``oldest`` is valid.

    Errors: ``Repeated``. All times are Unix seconds.
    """
    connection.lock(key_lock(key_id))
    _prune(connection, oldest)
    # Both, since a gateway may have registered, or its entry may have ended, in between.
    own, shared = (key_id, nonce), (_SHARED, f"{key_id} {nonce}")
    known, floor, registered = connection.execute(_LOOKED_UP, (*own, *shared, key_id, key_id)).fetchone()
    if known or (floor is not None and created <= floor):
        raise Repeated("this request was sent before")
    # A user's key id is a number; only registered ones get here, for their key is looked up first.
    row = own if registered or key_id.isdigit() else shared
    tables.insert(connection, "nonce", key_id=row[0], nonce=row[1], created=created)
    number, of_all = connection.execute(_NUMBERS, (row[0],)).fetchone()
    if number > MOST:
        _make_room(connection, row[0], _MADE_FREE)
    if of_all > MOST_OF_ALL:
        most, number = connection.execute(_LARGEST).fetchone()
        _make_room(connection, most, min(_MADE_FREE, number // 2))


def _prune(connection: DatabaseConnection, oldest: int) -> None:
    alone = connection.alone("prune nonces")
    for table in ("nonce", "nonce_floor"):
        connection.execute(
            f"DELETE FROM {table} WHERE {alone} AND rowid IN"  # noqa: S608
            f" (SELECT rowid FROM {table} WHERE created < ? ORDER BY created LIMIT ?)",
            (oldest, _PRUNED),
        )


def _make_room(connection: DatabaseConnection, key_id: str, number: int) -> None:
    if key_id == _SHARED:
        forget = "DELETE FROM nonce WHERE rowid IN (SELECT rowid FROM nonce WHERE key_id = ? ORDER BY rowid LIMIT ?)"
        connection.execute(forget, (key_id, max(number, 1)))
        return
    last = "SELECT created FROM nonce WHERE key_id = ? ORDER BY created LIMIT 1 OFFSET ?"
    floor = connection.execute(last, (key_id, number)).fetchone()[0]
    tables.replace(connection, "nonce_floor", key_id=key_id, created=floor)
    connection.execute("DELETE FROM nonce WHERE key_id = ? AND created <= ?", (key_id, floor))
