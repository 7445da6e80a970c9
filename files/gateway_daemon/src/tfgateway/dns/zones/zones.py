"""All zones in memory, found by the longest match. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.zones.zone import Zone

Watcher = Callable[[Name, Collection[Name] | None], None]
"""Called between two queries, with the change in place: the zone's name, and the names in it (folded) that came, went
or have other records; None: the zone as a whole came, went or was replaced.

With any change the zone's serial may change too: its SOA, and with it every NXDOMAIN and NODATA of the zone. And an
answer depends on more than its own name: on a cut or wildcard above it, on the targets of its CNAME, on the addresses
of hosts that its NS, MX and SRV name, and on whether anything stands below it. A cache keeps each
answer under all those names, or drops more than what changed.
"""


class Zones:
    """The zones that are served: every hash whose name ends in a dot."""

    def __init__(self) -> None:
        self.generation = 0
        """Another number after every change of anything."""
        self._watchers: list[Watcher] = []
        self.stale = False
        """Redis has not answered for so long that replies say so (RFC 8914 §4.4). Set by ``set_age``."""
        self.expired = False
        """The zones are too old to be served. Set by ``set_age``."""
        self.zones: dict[Name, Zone] = {}
        """To look at; changed by ``put`` and ``remove``."""
        self.above: dict[Name, int] = {}
        """Names above a zone -> how many zones are below."""

    def __len__(self) -> int:
        return len(self.zones)

    def __iter__(self) -> Iterator[Zone]:
        return iter(self.zones.values())

    def get(self, name: Name) -> Zone | None:
        """The zone of exactly this name."""
        return self.zones.get(name)

    def put(self, zone: Zone) -> None:
        """Serve ``zone`` from the next query on, instead of any of the same name."""
        if zone.name not in self.zones:
            self._count_above(zone.name, 1)
        self.zones[zone.name] = zone
        self.announce(zone.name, None)

    def remove(self, name: Name) -> None:
        """Serve the zone no more; harmless when it is not there."""
        if self.zones.pop(name, None) is not None:
            self._count_above(name, -1)
            self.announce(name, None)

    def watch(self, watcher: Watcher) -> None:
        """Call ``watcher`` for every change from now on. It must be quick and must not raise."""
        self._watchers.append(watcher)

    def announce(self, zone: Name, changed: Collection[Name] | None) -> None:
        """Notify the watchers of a zone that was changed in place (see ``Watcher``)."""
        self.generation += 1
        for watcher in self._watchers:
            watcher(zone, changed)

    def set_age(self, *, stale: bool, expired: bool) -> None:
        """Serve what was known with a remark (stale), not at all (expired), or as usual; answers change with it."""
        if (stale, expired) != (self.stale, self.expired):
            self.stale, self.expired = stale, expired
            for zone in self:
                self.announce(zone.name, None)

    def find(self, name: Name, kind: int) -> Zone | None:
        """The zone that answers for ``name``; None: not ours.

        A DS record belongs to the upper side of a cut (RFC 4035 §3.1.4.1): if both sides are here, the upper answers.
        """
        zone = self._closest(name)
        if kind == codes.DS and zone is not None and zone.name == name != names.ROOT:
            return self._closest(names.parent(name)) or zone
        return zone

    def leads_to_zone(self, name: Name) -> bool:
        """Is a zone of this name or below it served? Then the name exists whatever the zone above knows (RFC 8020)."""
        return name in self.above or name in self.zones

    def _closest(self, name: Name) -> Zone | None:
        zones = self.zones
        while (zone := zones.get(name)) is None:
            if name == names.ROOT:
                return None
            name = names.parent(name)
        return zone

    def _count_above(self, name: Name, change: int) -> None:
        while name != names.ROOT:
            name = names.parent(name)
            count = self.above.get(name, 0) + change
            if count:
                self.above[name] = count
            else:
                del self.above[name]
