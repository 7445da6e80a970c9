"""The rows of redis as a plan sees them: as read, with the plan's changes on top; makes transactions. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS

_SEALED = frozenset({OUTBOX, RESERVATIONS})
"""Hashes whose values are big, and hardly ever looked at again once they are written."""


_MOST_SHARED = 10_000


class Seal(bytes):
    """SHA-1 of a value that is kept in redis alone: enough to find out there whether it is still the same."""

    __slots__ = ()


def seal(value: bytes) -> Seal:
    """The digest that stands for ``value``. SHA-1 is enough: who could forge one could write redis anyway."""
    return Seal(hashlib.sha1(value, usedforsecurity=False).digest())


class Row(NamedTuple):
    """A field of a hash (``field`` given) or a string (``field`` None); ``value`` None: absent.

    Keys and fields are text (UTF-8, undecodable bytes as surrogates), values the bytes of redis; an expected one may
    be a ``Seal``.
    """

    key: str
    field: str | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Rows to write atomically, and only if redis still holds what the plan was made from."""

    expected: tuple[Row, ...] = ()
    writes: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Actual:
    """The content of redis, as far as it concerns a gateway."""

    hashes: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    strings: Mapping[str, bytes] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """What could not be read, one line each."""


class Rows:
    """Collects reads and writes until ``take`` makes a transaction of them or ``undo`` discards them."""

    def __init__(self, actual: Actual) -> None:
        self._actual = actual
        self._planned: dict[str, dict[str | None, bytes | None]] = {}
        self._shared: dict[bytes, bytes] = {}
        self._read: dict[tuple[str, str | None], bytes | None] = {}
        self._written: dict[tuple[str, str | None], bytes | None] = {}

    def get(self, key: str, field: str | None = None) -> bytes | None:
        """The value as it will be when everything planned so far is applied."""
        place = (key, field)
        if place in self._written:
            return self._written[place]
        value = self._before(key, field)
        self._read[place] = value
        return value

    def put(self, key: str, field: str | None, value: bytes | None) -> None:
        """Write, or remove with None; what is there already is not written again."""
        before = self.get(key, field)
        same = seal(value) == before if isinstance(before, Seal) and value is not None else before == value
        if not same:
            self._written[(key, field)] = value

    def forget(self, key: str, field: str) -> None:
        """Remove a field whatever it holds by then: no expectation."""
        self._written[(key, field)] = None

    def fields(self, key: str) -> Iterator[tuple[str, bytes]]:
        """All fields of a hash as planned so far, the open transaction's writes included."""
        planned = self._planned.get(key, {})
        written = {field: value for (of, field), value in self._written.items() if of == key}
        names: dict[str | None, None] = dict.fromkeys([*self._actual.hashes.get(key, {}), *planned, *written])
        for name in names:
            value = written[name] if name in written else self._before(key, name)
            if name is not None and value is not None:
                yield name, value

    def hashes(self) -> Iterator[str]:
        """Keys of the hashes in redis, whether the plan empties them or not."""
        return iter(self._actual.hashes)

    def strings(self) -> Iterator[str]:
        """Keys of the strings in redis."""
        return iter(self._actual.strings)

    def peek(self) -> Transaction:
        """The open transaction as it stands."""
        changed = {place: value for place, value in self._written.items() if self._before(*place) != value}
        return Transaction(
            tuple(Row(*place, value) for place, value in self._read.items()),
            tuple(Row(*place, value) for place, value in changed.items()),
        )

    def take(self) -> Transaction:
        """Close the open transaction; what follows is planned on top of it."""
        transaction = self.peek()
        for key, name, written in transaction.writes:
            value = written
            if value is not None:
                # The same few addresses and users stand in many rows.
                value = seal(value) if key in _SEALED else self._shared.setdefault(value, value)
            self._planned.setdefault(key, {})[name] = value
        if len(self._shared) > _MOST_SHARED:
            self._shared.clear()
        self.undo()
        return transaction

    def undo(self) -> None:
        """Discard the open transaction."""
        self._read = {}
        self._written = {}

    def _before(self, key: str, field: str | None) -> bytes | None:
        planned = self._planned.get(key, {})
        if field in planned:
            return planned[field]
        if field is None:
            return self._actual.strings.get(key)
        return self._actual.hashes.get(key, {}).get(field)
