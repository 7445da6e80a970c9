"""Domain names: parents, and an index of owners above and below a name."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping


def suffixes(name: str) -> Iterator[str]:
    """``"a.b.c"`` -> ``"a.b.c"``, ``"b.c"``, ``"c"``."""
    while name:
        yield name
        name = name.partition(".")[2]


def relative(name: str, zone: str) -> str:
    """``("www.gw1.example", "gw1.example")`` -> ``"www"``; empty: the zone itself."""
    return name[: len(name) - len(zone)].removesuffix(".")


class NameIndex:
    """Index from name to owner, which finds everything above and below a name without a scan."""

    def __init__(self, owners: Mapping[str, str]) -> None:
        self._owners = dict(owners)
        self._order = sorted(map(_reversed, self._owners))

    def __contains__(self, name: str) -> bool:
        return name in self._owners

    def get(self, name: str) -> str | None:
        return self._owners.get(name)

    def set(self, name: str, owner: str) -> None:
        if name not in self._owners:
            bisect.insort(self._order, _reversed(name))
        self._owners[name] = owner

    def discard(self, name: str) -> None:
        if self._owners.pop(name, None) is not None:
            del self._order[bisect.bisect_left(self._order, _reversed(name))]

    def at_or_above(self, name: str) -> Iterator[tuple[str, str]]:
        """Those with an owner among ``name`` and its parents, longest first."""
        for suffix in suffixes(name):
            if suffix in self._owners:
                yield suffix, self._owners[suffix]

    def below(self, name: str) -> list[tuple[str, str]]:
        """Names with an owner that end in ``.name``."""
        prefix = _reversed(name)
        found = []
        for position in range(bisect.bisect_right(self._order, prefix), len(self._order)):
            if not self._order[position].startswith(prefix):
                break
            child = _reversed(self._order[position])[1:-1]
            found.append((child, self._owners[child]))
        return found

    def items(self) -> Mapping[str, str]:
        """All names; not to be changed."""
        return self._owners


def _reversed(name: str) -> str:
    """``"www.gw1.example"`` -> ``"example.gw1.www."``: children sort right after their parent."""
    return ".".join(reversed(name.split("."))) + "."
