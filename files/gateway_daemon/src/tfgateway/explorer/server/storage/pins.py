"""Pinned keys: of their requests only those with a bound signature are accepted (E-2).

A key is offered the pin once it has used no other signature for ``OFFERED_AFTER`` seconds, or ever: then no old program
is left that it would lock out. The explorer notes the last other one of each registered key, to ``_GRAIN`` seconds.
"""

from __future__ import annotations

from tfgateway.explorer.server.storage import settings, tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection
from tfgateway.explorer.signing import Pin

OFFERED_AFTER = 30 * 86_400
_GRAIN = 3600
_STATE = """
SELECT EXISTS (SELECT 1 FROM pin WHERE key_id = ?), (SELECT value FROM setting WHERE name = ?),
  (SELECT used FROM unbound WHERE key_id = ?), EXISTS (SELECT 1 FROM gateway WHERE node_id = ?)
"""


def pinned(connection: DatabaseConnection, key_id: str) -> bool:
    """Whether the key with this id (node id or decimal tid) is pinned."""
    return connection.execute("SELECT 1 FROM pin WHERE key_id = ?", (key_id,)).fetchone() is not None


def change(connection: DatabaseConnection, key_id: str, *, pin: bool, now: float) -> bool:
    """Pin the key, or take its pin back; False when it was so already.

    Who takes a pin back is about to run an old program: it counts as used.
    """
    if not pin:
        _note(connection, key_id, now)
    changes = pinned(connection, key_id) != pin
    add = "INSERT INTO pin (key_id) VALUES (?) ON CONFLICT DO NOTHING"
    connection.execute(add if pin else "DELETE FROM pin WHERE key_id = ?", (key_id,))
    return changes


def state(connection: DatabaseConnection, key_id: str, now: float) -> Pin | None:
    """What the answer to a bound request says; None: the pin is neither set nor offered. Writes at its first call."""
    is_pinned, since, last, gateway = connection.execute(
        _STATE, (key_id, settings.UNBOUND_NOTED_SINCE, key_id, key_id)
    ).fetchone()
    if is_pinned:
        return Pin.SET
    # In a database of an older release nothing says what was used before.
    if since is None:
        since = str(int(now))
        settings.add(connection, settings.UNBOUND_NOTED_SINCE, since)
    # A user's key id is a number, and was looked up.
    registered = gateway or key_id.isdigit()
    return Pin.OFFERED if registered and now - max(int(since), last or 0) >= OFFERED_AFTER else None


def unnoted(connection: DatabaseConnection, key_id: str, now: float) -> bool:
    """Whether the use of another signature at this time has yet to be noted."""
    last = _last(connection, key_id)
    return (last is None or now - last >= _GRAIN) and _registered(connection, key_id)


def note(connection: DatabaseConnection, key_id: str, now: float) -> None:
    """Note that the key has used another signature."""
    if unnoted(connection, key_id, now):
        _note(connection, key_id, now)


def _note(connection: DatabaseConnection, key_id: str, now: float) -> None:
    tables.replace(connection, "unbound", key_id=key_id, used=int(now))


def _last(connection: DatabaseConnection, key_id: str) -> int | None:
    row = connection.execute("SELECT used FROM unbound WHERE key_id = ?", (key_id,)).fetchone()
    return int(row[0]) if row else None


def _registered(connection: DatabaseConnection, key_id: str) -> bool:
    # Of others anybody can make up as many as they like. A user's key id is a number, and was looked up.
    return key_id.isdigit() or tables.find(connection, "gateway", node_id=key_id) is not None
