"""Counters of queries, kept without a system call or a lock, so that no query waits for them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from tfgateway.dns.wire import codes
from tfgateway.telemetry.histogram import Histogram

_LATENCY_BOUNDS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
"""Seconds."""

Cell = list[int]
"""One counter, alone in a list: a holder of the list counts without another look-up."""


class QueryCounters:
    """Counters since the start of the process. Labels come from fixed sets, never from the network."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, int, int], Cell] = {}
        self.drops: defaultdict[tuple[str, str], int] = defaultdict(int)
        """(transport, reason) -> messages without a reply."""
        self.cookies: defaultdict[str, int] = defaultdict(int)
        """``valid``, ``client``, ``bad`` or ``malformed`` -> queries with a COOKIE option."""
        self.tsig: defaultdict[str, int] = defaultdict(int)
        """``valid``, ``badkey``, ``badsig`` or ``badtime`` -> queries with a TSIG record."""
        self.transfers: defaultdict[str, int] = defaultdict(int)
        """``full``, ``current`` (nothing newer) or ``refused`` -> queries for a zone."""
        self.updates: defaultdict[str, int] = defaultdict(int)
        """Response code -> UPDATE messages."""
        self.notifies: defaultdict[str, int] = defaultdict(int)
        """``acknowledged``, ``refused`` or ``unanswered`` -> NOTIFY messages to secondaries."""
        self.latency = Histogram(_LATENCY_BOUNDS)
        """UDP queries by the time from taking them from the socket to handing over their replies; each of a batch is
        counted as long as the whole.
        """

    @property
    def queries(self) -> Mapping[tuple[str, int, int], int]:
        """(transport, type or 0 for "other", rcode) -> answered queries."""
        return {label: cell[0] for label, cell in self._cells.items() if cell[0]}

    def cell(self, transport: str, kind: int, rcode: int) -> Cell:
        """The counter of replies to queries of this type with this rcode."""
        return self._cells.setdefault((transport, kind if kind in codes.TYPE_NAMES else 0, rcode), [0])

    def answered(self, transport: str, kind: int, rcode: int) -> None:
        """Count a reply."""
        self.cell(transport, kind, rcode)[0] += 1

    def dropped(self, transport: str, reason: str) -> None:
        """Count a message that got no reply, or whose reply could not be sent."""
        self.drops[transport, reason] += 1
