"""Bookkeeping of a mirror: what the sink has, and what is still to be read. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from tfgateway.redis_schema.zone_changes import Changes

Value = dict[bytes, bytes] | bytes
"""A hash or a string, as redis holds it."""

_FIELDS_A_PART = 5000
_MASK = 2**64 - 1
_DISTRUSTED = -1
"""Fingerprint that no value has."""


def fingerprint_parts(value: Value) -> Iterator[int]:
    """Numbers whose sum (64 bits of it) differs between two values, whatever the order of a hash's fields.

    Each took at most a few milliseconds, so that a million fields need not hold up everything else. Good within this
    process only: built on the interpreter's SipHash, with a random key at start. So a writer of redis cannot aim
    for a collision, at a quarter of the cost of a cryptographic digest.
    """
    if isinstance(value, bytes):
        yield hash(value)
        return
    fields = iter(value.items())
    while part := tuple(islice(fields, _FIELDS_A_PART)):
        # Joined, not as a tuple: tuple hashes are near enough to additive that two swapped values would go unseen.
        yield sum(hash(b"%d:%b%b" % (len(name), name, content)) for name, content in part)


@dataclass(slots=True)
class Reading:
    """Changes of a hash while it is being read."""

    touched: bool = False
    """Others wrote it: pieces from before and after may not belong together."""
    missed: dict[bytes, bytes | None] = field(default_factory=dict)
    """What was explained meanwhile; to be put on top of what was read."""


class Known:
    """What was last passed on to the sink, key by key, as fingerprints instead of copies."""

    def __init__(self) -> None:
        self._fingerprints: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._fingerprints)

    def keys(self) -> Iterable[bytes]:
        return self._fingerprints.keys()

    def update(self, key: bytes, fingerprint: int | None) -> bool:
        """Note the sum of a value's fingerprint parts (None: gone). True when the sink needs it."""
        if fingerprint is None:
            return self._fingerprints.pop(key, None) is not None
        new = fingerprint & _MASK
        old = self._fingerprints.get(key)
        self._fingerprints[key] = new
        return new != old

    def holds(self, key: bytes) -> bool:
        """Whether the sink has this key."""
        return key in self._fingerprints

    def distrust(self, key: bytes) -> None:
        """Note that the sink failed on this key: whatever is read next, even "gone", is passed on again."""
        self._fingerprints[key] = _DISTRUSTED


class PendingKeys:
    """Names of keys that changed and were not read since; each is kept once, however often it is announced."""

    def __init__(self, wanted: Callable[[bytes], bool]) -> None:
        self._wanted = wanted
        # A dict is a set that remembers the order: the oldest change is read first.
        self._keys: dict[bytes, None] = {}
        self._changes: Changes = {}
        self._explained: set[bytes] = set()
        self._reading: dict[bytes, Reading] = {}
        self._under_way: set[bytes] = set()
        self.everything = True
        """Nothing is known for certain: a snapshot is due."""

    def __len__(self) -> int:
        return len(self._keys)

    def announce(self, keys: Iterable[bytes] | None) -> list[bytes]:
        """Changed keys as redis names them; None when it cannot say which (FLUSHALL).

        Those whose change came by ``explain`` already are not to be read again; they are returned.
        """
        if keys is None:
            self.everything = True
            return []
        explained = []
        for key in keys:
            if key in self._explained:
                explained.append(key)
            elif key in self._reading:
                self._reading[key].touched = True
            elif self._wanted(key):
                self._keys[key] = None
        # What is written from now on is named in another message.
        self._explained.clear()
        return explained

    def explain(self, changes: Changes, has: Callable[[bytes], bool]) -> None:
        """What a transaction changed; the keys are announced after it. has: has the sink got this key?"""
        for key, fields in changes.items():
            reading = self._reading.get(key)
            if fields is None:
                # Whether it is gone for good is seen by reading.
                continue
            if reading is not None:
                reading.missed.update(fields)
            elif has(key) and key not in self._keys and key not in self._under_way:
                self._changes.setdefault(key, {}).update(fields)  # type: ignore[union-attr]
            else:
                continue
            self._explained.add(key)

    def take_changes(self) -> Changes:
        """Take the explained changes that were not passed on to the sink yet."""
        taken, self._changes = self._changes, {}
        return taken

    @contextmanager
    def reading(self, key: bytes) -> Iterator[Reading]:
        """While a hash is read in pieces: what is explained goes to ``Reading.missed``."""
        self._reading[key] = Reading()
        self._keys.pop(key, None)  # all that was announced so far is read now
        self._changes.pop(key, None)
        self.end(key)
        try:
            yield self._reading[key]
        finally:
            if self._reading.pop(key).touched:
                self._keys[key] = None

    def begin(self, keys: Iterable[bytes]) -> None:
        """Mark keys as being read: what is explained may be in what is read, or not."""
        self._under_way.update(keys)

    def end(self, key: bytes) -> None:
        """Mark a key as read and passed on."""
        self._under_way.discard(key)

    def take(self) -> list[bytes]:
        """Take all names so far. What changes while they are read is announced, and taken, again."""
        taken = list(self._keys)
        self._keys.clear()
        return taken
