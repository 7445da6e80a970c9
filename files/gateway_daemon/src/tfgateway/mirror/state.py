"""What a mirror knows and what it still has to look at. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

Value = dict[bytes, bytes] | bytes
"""A hash or a string, as redis holds it."""

_FIELDS_A_PART = 5000
_MASK = 2**64 - 1
_DISTRUSTED = -1
"""Fingerprint that no value has."""


def fingerprint_parts(value: Value) -> Iterator[int]:
    """Numbers whose sum (64 bits of it) tells two values apart, whatever the order of a hash's fields.

    Each took at most a few milliseconds, so that a million fields need not hold up everything else. Good within this
    process only: built on the interpreter's SipHash, keyed by chance at start. So nobody who can write redis can aim
    for a collision, at a quarter of the cost of a cryptographic digest.
    """
    if isinstance(value, bytes):
        yield hash(value)
        return
    fields = iter(value.items())
    while part := tuple(islice(fields, _FIELDS_A_PART)):
        # Joined, not as a tuple: tuple hashes are near enough to additive that two swapped values would go unseen.
        yield sum(hash(b"%d:%b%b" % (len(name), name, content)) for name, content in part)


class Known:
    """What the sink was last told, key by key, as fingerprints instead of copies."""

    def __init__(self) -> None:
        self._fingerprints: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._fingerprints)

    def keys(self) -> Iterable[bytes]:
        return self._fingerprints.keys()

    def update(self, key: bytes, fingerprint: int | None) -> bool:
        """Note the sum of a value's fingerprint parts (None: gone). True when the sink has to be told."""
        if fingerprint is None:
            return self._fingerprints.pop(key, None) is not None
        new = fingerprint & _MASK
        old = self._fingerprints.get(key)
        self._fingerprints[key] = new
        return new != old

    def distrust(self, key: bytes) -> None:
        """The sink failed on this key: whatever is read next, even "gone", is told again."""
        self._fingerprints[key] = _DISTRUSTED


class Pending:
    """Names of keys that changed and were not read since; each is held once, however often it is announced."""

    def __init__(self, wanted: Callable[[bytes], bool]) -> None:
        self._wanted = wanted
        # A dict is a set that remembers the order: the oldest news is read first.
        self._keys: dict[bytes, None] = {}
        self.everything = True
        """Nothing is known for certain: a snapshot is due."""

    def __len__(self) -> int:
        return len(self._keys)

    def announce(self, keys: Iterable[bytes] | None) -> None:
        """Changed keys as redis names them; None when it cannot say which (FLUSHALL)."""
        if keys is None:
            self.everything = True
        else:
            self._keys.update((key, None) for key in keys if self._wanted(key))

    def take(self) -> list[bytes]:
        """All names so far. What changes while they are read is announced, and taken, again."""
        taken = list(self._keys)
        self._keys.clear()
        return taken
