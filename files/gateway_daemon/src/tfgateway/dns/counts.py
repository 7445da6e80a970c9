"""What happened to queries, counted without a system call or a lock: the path of a query must not wait. Pure."""

from __future__ import annotations

from collections import defaultdict

from tfgateway.dns import codes


class Counts:
    """Counters since the start of the process. Labels come from fixed sets, never from the network."""

    def __init__(self) -> None:
        self.queries: defaultdict[tuple[str, int, int], int] = defaultdict(int)
        """(transport, type or 0 for "other", rcode) -> answered queries."""
        self.drops: defaultdict[tuple[str, str], int] = defaultdict(int)
        """(transport, reason) -> messages without a reply."""
        self.cookies: defaultdict[str, int] = defaultdict(int)
        """``valid``, ``client``, ``bad`` or ``malformed`` -> queries with a COOKIE option."""

        self.tsig: defaultdict[str, int] = defaultdict(int)
        """``valid``, ``badkey``, ``badsig`` or ``badtime`` -> queries with a TSIG record."""
        self.transfers: defaultdict[str, int] = defaultdict(int)
        """``full``, ``current`` (nothing newer) or ``refused`` -> queries for a zone."""

        self.notifies: defaultdict[str, int] = defaultdict(int)
        """``acknowledged``, ``refused`` or ``unanswered`` -> changes that a secondary was told of."""

    def answered(self, transport: str, kind: int, rcode: int) -> None:
        """A reply was made."""
        self.queries[transport, kind if kind in codes.TYPE_NAMES else 0, rcode] += 1

    def dropped(self, transport: str, reason: str) -> None:
        """A message got no reply, or the reply could not be sent."""
        self.drops[transport, reason] += 1
