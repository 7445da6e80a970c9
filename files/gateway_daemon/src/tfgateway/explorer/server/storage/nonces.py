"""Nonces of bound signatures, kept for as long as those signatures are valid: none is accepted twice (E-2).

A registered gateway or user has room for ``MOST`` of them. When it is full, its oldest make room and every signature
that is not newer than those is refused from then on, so that nothing can be repeated and new requests always pass.
Gateways that are not registered share one such room: anybody can make up their keys, so there the oldest are forgotten.
"""

from __future__ import annotations

import sqlite3

from tfgateway.errors import GatewayError
from tfgateway.explorer.server.storage import database

MOST = 10_000
_MADE_FREE = 1_000
_SHARED = ""  # the key id under which those of unregistered gateways are kept


class Repeated(GatewayError):
    """The nonce was used before, or may have been."""


def use(connection: sqlite3.Connection, key_id: str, nonce: str, created: int, *, oldest: int) -> None:
    """Use up ``nonce`` of ``key_id``, whose signature was made at ``created``; none before ``oldest`` is valid.

    Errors: ``Repeated``. All times are Unix seconds.
    """
    connection.execute("DELETE FROM nonce WHERE created < ?", (oldest,))
    connection.execute("DELETE FROM nonce_floor WHERE created < ?", (oldest,))
    shared = (_SHARED, f"{key_id} {nonce}")
    row = shared if _unregistered(connection, key_id) else (key_id, nonce)
    found = connection.execute(
        "SELECT 1 FROM nonce WHERE (key_id, nonce) IN (VALUES (?, ?), (?, ?))"
        " UNION ALL SELECT 1 FROM nonce_floor WHERE key_id = ? AND created >= ?",
        (*row, *shared, row[0], created),
    )
    if found.fetchone() is not None:
        raise Repeated("this request was sent before")
    database.insert(connection, "nonce", key_id=row[0], nonce=row[1], created=created)
    if connection.execute("SELECT count(*) FROM nonce WHERE key_id = ?", (row[0],)).fetchone()[0] > MOST:
        _make_room(connection, row[0])


def _unregistered(connection: sqlite3.Connection, key_id: str) -> bool:
    # A user's key id is a number; only registered ones get here, for their key is looked up first.
    return not key_id.isdigit() and database.find(connection, "gateway", node_id=key_id) is None


def _make_room(connection: sqlite3.Connection, key_id: str) -> None:
    if key_id == _SHARED:
        forget = "DELETE FROM nonce WHERE rowid IN (SELECT rowid FROM nonce WHERE key_id = ? ORDER BY rowid LIMIT ?)"
        connection.execute(forget, (key_id, _MADE_FREE))
        return
    last = "SELECT created FROM nonce WHERE key_id = ? ORDER BY created LIMIT 1 OFFSET ?"
    floor = connection.execute(last, (key_id, _MADE_FREE)).fetchone()[0]
    connection.execute("INSERT OR REPLACE INTO nonce_floor (key_id, created) VALUES (?, ?)", (key_id, floor))
    connection.execute("DELETE FROM nonce WHERE key_id = ? AND created <= ?", (key_id, floor))
