"""How many connections may be open: in total, and from one source."""

from __future__ import annotations

from tfgateway.net import addresses


class Admission:
    """Counts open connections. A source is an IPv4 address or an IPv6 /64, which belongs to one customer."""

    def __init__(self, *, total: int, per_source: int) -> None:
        self._total = total
        self._per_source = per_source
        self._by_source: dict[str | bytes, int] = {}
        self._open = 0

    def enter(self, address: str | None) -> bool:
        """Count one more from this IP literal; False, and nothing counted, when a limit is reached.

        None: the source is not known yet (``claim``).
        """
        if self._open >= self._total:
            return False
        if address is not None and not self.claim(address):
            return False
        self._open += 1
        return True

    def claim(self, address: str) -> bool:
        """Count the source of one that has entered without; False, and nothing counted, when its limit is reached."""
        source = addresses.source(address)
        count = self._by_source.get(source, 0)
        if count >= self._per_source:
            return False
        self._by_source[source] = count + 1
        return True

    def take_in(self, address: str) -> None:
        """Count one more whatever the limits are."""
        source = addresses.source(address)
        self._open += 1
        self._by_source[source] = self._by_source.get(source, 0) + 1

    def leave(self, address: str | None) -> None:
        """Undo one ``enter`` that returned True, and the ``claim`` that followed it."""
        self._open -= 1
        if address is None:
            return
        source = addresses.source(address)
        count = self._by_source[source]
        if count > 1:
            self._by_source[source] = count - 1
        else:
            del self._by_source[source]
