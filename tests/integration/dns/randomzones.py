"""Random zones in the redis layout, and random questions about them. The same seed makes the same ones."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tfgateway.dns.wire import names

Labels = tuple[bytes, ...]
"""The leftmost first."""

COMMON = [b"a", b"b", b"c", b"www", b"mail", b"ns", b"*"]
ODD = [b"_sip", b"_tcp", b"__owner__", b"_acme-challenge", b"xn--bcher-kva", b"*a", b"a*", b"-", b"0", b"1.2", b"a b"]
ODD += [b"\\", b'"', b";", b"$", b"@", b"(", b"\x00", b"\xc3\xa9", b"\x7f\xff", b"l" * 63, b"ost1"]
SERVERS = ["ns1.gateway.example", "ns2.gateway.example"]
TOP = b"test"
OUTSIDE: Labels = (b"www", b"elsewhere", b"example")


def wire(labels: Labels) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def text(labels: Labels) -> str:
    """Absolute, as the layout writes it."""
    return names.to_text(wire(labels)).decode()


def fits(labels: Labels) -> bool:
    return len(wire(labels)) <= 255


@dataclass
class World:
    """zones: origin -> relative labels -> records of the layout."""

    zones: dict[Labels, dict[Labels, dict[str, object]]] = field(default_factory=dict)

    def layout(self) -> dict[str, dict[str, object]]:
        """Redis key -> field -> records."""
        return {
            text(origin): {text(labels).rstrip(".") if labels else "@": sets for labels, sets in nodes.items()}
            for origin, nodes in self.zones.items()
        }


class Maker:
    """Makes worlds and questions."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def world(self, count: int) -> World:
        """count: zones; about a third of them lie below others."""
        world = World()
        while len(world.zones) < count:
            origin: Labels = (b"z%d" % len(world.zones), TOP)
            if world.zones and self.random.random() < 0.35:
                parent = self.random.choice(list(world.zones))
                origin = (*self.relative(1, 2), *parent)
            if fits((b"l" * 63, *origin)) and not {b"*", b'"'} & set(origin):
                world.zones.setdefault(origin, {})
        for origin, nodes in world.zones.items():
            for labels in [() if self.random.random() < 0.1 else self.relative(1, 4) for _ in range(self.count(12))]:
                if labels == (b"@",):
                    continue  # the layout's word for the zone itself
                if fits((*labels, *origin)):
                    nodes[labels] = self.records(world, origin, apex=not labels)
            if not nodes or self.random.random() < 0.05:  # a deep name, and with it many empty non-terminals
                nodes[(b"d",) * 40] = {"txt": [{"text": "deep"}]}
        for origin in world.zones:  # some of the zones below others are delegated as they should be
            parent = next((origin[at:] for at in range(1, len(origin)) if origin[at:] in world.zones), None)
            if parent is not None and self.random.random() < 0.5:
                servers = [{"host": text(self.target(world, origin))} for _ in range(self.count(2))]
                world.zones[parent][origin[: len(origin) - len(parent)]] = {"ns": servers}
        return world

    def count(self, most: int) -> int:
        return self.random.randint(1, most)

    def relative(self, least: int, most: int) -> Labels:
        return tuple(self.label() for _ in range(self.random.randint(least, most)))

    def label(self) -> bytes:
        return self.random.choice(COMMON if self.random.random() < 0.75 else ODD)

    def target(self, world: World, origin: Labels) -> Labels:
        """A name that records point to: mostly one that exists, mostly in the zone itself."""
        if self.random.random() < 0.1:
            return OUTSIDE
        if self.random.random() < 0.3:
            above = [origin[at:] for at in range(1, len(origin)) if origin[at:] in world.zones]
            origin = self.random.choice(above if above and self.random.random() < 0.5 else list(world.zones))
        nodes = list(world.zones[origin])
        labels = self.random.choice(nodes) if nodes and self.random.random() < 0.7 else self.relative(1, 3)
        if labels[:1] == (b"*",) and self.random.random() < 0.5:
            labels = (*self.relative(1, 2), *labels[1:])
        name = (*labels, *origin)
        return name if fits(name) else origin

    def records(self, world: World, origin: Labels, *, apex: bool) -> dict[str, object]:
        chosen = self.random.choices(
            ["data", "cname", "ns", "soa"], [70, 18 if not apex else 0, 12, 20 if apex else 0], k=1
        )[0]
        host = lambda: text(self.target(world, origin))  # noqa: E731 - a name for five uses
        ttl = lambda: {"ttl": self.random.choice([0, 5, 60, 300, 3600])}  # noqa: E731
        if chosen == "cname":
            return {"cname": [{"host": host(), **ttl()}]}
        if chosen == "ns":
            return {"ns": [{"host": host(), **ttl()} for _ in range(self.count(3))]}
        sets: dict[str, object] = {}
        if chosen == "soa":
            timers = {"refresh": 7200, "retry": 3600, "expire": 604800, "minttl": self.random.choice([5, 60, 900])}
            sets["soa"] = {"ns": host(), "MBox": "hostmaster.example.", **timers, **ttl()}
        for kind in self.random.sample(["a", "aaaa", "txt", "mx", "srv", "caa"], self.count(3)):
            sets[kind] = [self.element(kind, host(), ttl()) for _ in range(self.count(3))]
        return sets

    def element(self, kind: str, host: str, ttl: dict[str, int]) -> dict[str, object]:
        number = self.random.randint(1, 250)
        match kind:
            case "a":
                return {"ip": f"192.0.2.{number}", **ttl}
            case "aaaa":
                return {"ip": f"2001:db8::{number:x}", **ttl}
            case "txt":
                size = self.random.choice([1, 10, 254, 255, 256, 510, 700])
                return {"text": "".join(self.random.choices('ab"\\;é \t$', k=size)), **ttl}
            case "mx":
                return {"host": host, "preference": number, **ttl}
            case "srv":
                return {"target": host, "priority": 1, "weight": number, "port": 443, **ttl}
            case _:
                return {"flag": self.random.choice([0, 128]), "tag": "issue", "value": f"ca{number}.example"}

    def question(self, world: World) -> Labels:
        """A name that exists, or lies beside, above or below one that does, or is none of ours."""
        origin = self.random.choice(list(world.zones))
        labels = self.random.choice(list(world.zones[origin]) or [()])
        for _ in range(self.random.choice([0, 0, 0, 1, 1, 2])):
            match self.random.randrange(4):
                case 0:
                    labels = (self.label(), *labels)
                case 1:
                    labels = labels[1:]
                case 2:
                    labels = (self.label(), *labels[1:])
                case _:
                    labels = tuple(self.label() if label == b"*" else label for label in labels)
        name = (*labels, *origin)
        if self.random.random() < 0.02:
            name = self.random.choice([(), (TOP,), OUTSIDE, (b"nope", TOP)])
        name = name if fits(name) else origin
        if self.random.random() < 0.2:
            name = tuple(bytes(self.random.choice([b, ord(chr(b).upper())]) if b < 128 else b for b in x) for x in name)
        return name
