"""Serial numbers of zones: they change only with the data, and only upwards (RFC 1982). Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from tfgateway.redis_schema.serials import Issued

_MODULUS = 2**32


def is_newer(serial: int, other: int) -> bool:
    """``serial`` > ``other`` in the arithmetic of RFC 1982 §3.2."""
    return 0 < (serial - other) % _MODULUS < _MODULUS // 2


def next_serial(previous: int, now: int) -> int:
    """The serial of changed data: the Unix time ``now``, or one more than before when that would not be newer."""
    stamp = now % _MODULUS
    return stamp if is_newer(stamp, previous) else (previous + 1) % _MODULUS


class SerialBook:
    """The serials of all zones, and the digests of the data that they stand for."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """changed: called whenever there is something to save."""
        self._changed = changed
        self._issued: dict[bytes, Issued] = {}
        self._unsaved: set[bytes] = set()

    def observe(self, saved: Mapping[bytes, Issued]) -> bool:
        """Take over saved serials of any process: the newer counts, and a newer one of our own is to be saved.

        False: nothing of it was new.
        """
        changed = False
        for key, issued in saved.items():
            own = self._issued.get(key)
            if own is None or is_newer(issued.serial, own.serial):
                self._issued[key] = issued
                changed = True
            elif own != issued:
                self._note(key)
        return changed

    def issue(self, key: bytes, digest: int, now: int) -> int:
        """The serial for the data of this digest in the zone of redis key ``key``; now: Unix time."""
        issued = self._issued.get(key)
        if issued is None:
            issued = Issued(now % _MODULUS, digest)
        elif issued.digest != digest:
            issued = Issued(next_serial(issued.serial, now), digest)
        else:
            return issued.serial
        self._issued[key] = issued
        self._note(key)
        return issued.serial

    def forget(self, key: bytes) -> None:
        """Drop a zone that is gone; if it comes back, its serial is the time of that moment."""
        if self._issued.pop(key, None) is not None:
            self._note(key)

    def forget_others(self, keys: Collection[bytes]) -> None:
        """Drop the serials of all other zones."""
        for key in [key for key in self._issued if key not in keys]:
            self.forget(key)

    def take_unsaved(self) -> dict[bytes, Issued | None]:
        """What has to be saved (None: removed) and now counts as saved."""
        taken = {key: self._issued.get(key) for key in self._unsaved}
        self._unsaved.clear()
        return taken

    def give_back(self, keys: Collection[bytes]) -> None:
        """Mark serials that could not be saved as unsaved again."""
        self._unsaved.update(keys)

    def save_all(self) -> None:
        """Mark all serials as unsaved: what was saved is lost."""
        for key in self._issued:
            self._note(key)

    def _note(self, key: bytes) -> None:
        self._unsaved.add(key)
        self._changed()
