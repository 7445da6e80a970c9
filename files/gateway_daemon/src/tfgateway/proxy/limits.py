"""How many connections may be open: in total, and from one source."""

from __future__ import annotations

import ipaddress
from collections import Counter


class Admission:
    """Counts open connections. A source is an IPv4 address or an IPv6 /64, which one visitor has to himself."""

    def __init__(self, *, total: int, per_source: int) -> None:
        self._total = total
        self._per_source = per_source
        self._by_source: Counter[str | bytes] = Counter()
        self._open = 0

    def enter(self, address: str) -> bool:
        """Count one more from this IP literal; False, and nothing counted, when a limit is reached."""
        source = _source(address)
        if self._open >= self._total or self._by_source[source] >= self._per_source:
            return False
        self._open += 1
        self._by_source[source] += 1
        return True

    def leave(self, address: str) -> None:
        """Undo one ``enter`` that returned True."""
        source = _source(address)
        self._open -= 1
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]


def _source(address: str) -> str | bytes:
    return ipaddress.IPv6Address(address).packed[:8] if ":" in address else address
