"""Random zones and questions, put to our server and to an NSD that copied the zones from it.

Whatever the two say differently must be one of the few differences in ``EXPLAINED``.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from .conftest import KEY, LIMIT
from .randomzones import Maker, World, wire

SEED = 7
ZONES = 1000
QUESTIONS = 20_000
KINDS = [
    "A",
    "AAAA",
    "TXT",
    "MX",
    "NS",
    "CNAME",
    "SOA",
    "SRV",
    "CAA",
    "PTR",
    "DS",
    "DNSKEY",
    "HTTPS",
    "ANY",
    "TYPE65280",
]

EXPLAINED = {
    "class": "QCLASS ANY is REFUSED: no reply could be authoritative, for no server knows all classes (RFC 1035 §6.2)",
    "cd": "CD is not repeated: an authoritative answer does not depend on it (RFC 4035 §3.1.6); NSD does in errors",
    "any": "ANY gets one of the RRsets, and each server chooses its own (RFC 8482 §4.1)",
    "ns": "an answer goes without the zone's NS and their addresses, which nobody asked for (RFC 1034 §4.3.2, §6.2.1)",
    "foreign": "no additional addresses that another zone has or that are below a cut (D-9, RFC 2181 §5.4.1)",
    "made": "a host whose addresses come from a wildcard keeps its name (RFC 4592 §3.3.2); NSD 4.6 cuts out all labels "
    "between the first one and the closest encloser in the additional section",
    "tree": "a name exists if its zone says so (RFC 1034 §4.3.2); NSD holds all zones in one tree, where names that a "
    "zone has at or below the apex of another, or that are above one, count as closest encloser (RFC 4592 §3.3.1)",
    "size": "what did not fit: NSD compresses names in NS, CNAME, MX and SOA data as well (RFC 1035 §4.1.4), and "
    "sends part of what it truncates (RFC 2181 §9); over TCP both say the same",
}
_WINDOW = 64
_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)

Line = tuple[dns.name.Name, int, int, str]
"""Owner, type, TTL, data."""


def queries(maker: Maker, world: World, count: int) -> Iterator[bytes]:
    pick = maker.random.choice
    for _ in range(count):
        kind = dns.rdatatype.from_text(pick(KINDS))
        flags = pick([0, 0, dns.flags.RD, dns.flags.CD, dns.flags.AD, dns.flags.RD | dns.flags.CD])
        opt = b""
        if maker.random.random() < 0.6:
            opt = b"\0" + struct.pack("!HHIH", 41, pick([0, 512, 1232, 4096]), pick([0, 0, 0x8000, 1 << 16]), 0)
        question = wire(maker.question(world)) + struct.pack("!HH", kind, pick([1] * 30 + [3, 255]))
        yield struct.pack("!HHHHHH", 0, flags, 1, 0, 0, bool(opt)) + question + opt


def exchange(port: int, messages: list[bytes]) -> list[bytes | None]:
    """Replies over UDP, a window of queries under way at once; ids are the places in it."""
    replies: list[bytes | None] = [None] * len(messages)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", port))
        udp.settimeout(LIMIT)
        for start in range(0, len(messages), _WINDOW):
            batch = messages[start : start + _WINDOW]
            for number, message in enumerate(batch):
                udp.send(struct.pack("!H", number) + message[2:])
            for _ in batch:
                reply = udp.recv(65535)
                replies[start + int.from_bytes(reply[:2], "big")] = reply
    return replies


def lines(section: list[dns.rrset.RRset]) -> set[Line]:
    return {(rrset.name, int(rrset.rdtype), rrset.ttl, item.to_text().lower()) for rrset in section for item in rrset}


class Judge:
    """Names the differences of two replies to one question."""

    def __init__(self, world: World) -> None:
        self.zones = {dns.name.Name([*origin, b""]) for origin in world.zones}
        self.existing: dict[dns.name.Name, set[dns.name.Name]] = {}
        """Zone -> its names, empty non-terminals among them."""
        self.cuts: set[dns.name.Name] = set()
        for origin, nodes in world.zones.items():
            apex = dns.name.Name([*origin, b""])
            held = self.existing[apex] = {apex}
            for labels, sets in nodes.items():
                name = dns.name.Name([*labels, *origin, b""])
                if labels and "ns" in sets:
                    self.cuts.add(name)
                while name not in held:
                    held.add(name)
                    name = name.parent()
        self.anywhere = set().union(*self.existing.values())
        """What exists in NSD's tree: names above zones do, too."""
        for apex in self.zones:
            while apex != dns.name.root:
                apex = apex.parent()
                self.anywhere.add(apex)

    def differences(self, our: dns.message.Message, their: dns.message.Message) -> set[str]:
        """Labels of EXPLAINED; one that is not there tells what is different."""
        question = our.question[0]
        found: set[str] = set()
        if (our.flags ^ their.flags) & dns.flags.CD:
            found.add("cd" if not our.flags & dns.flags.CD and our.rcode() else "flag CD")
        if question.rdclass == dns.rdataclass.ANY and our.rcode() == dns.rcode.REFUSED:
            return found | {"class"}
        if (our.edns, our.ednsflags & dns.flags.DO) != (their.edns, their.ednsflags & dns.flags.DO):
            found.add("EDNS")
        if (our.flags | their.flags) & dns.flags.TC:
            return found | {"size"}
        differing = self.sections(our, their, found)
        if differing and self.is_tree(our, their):
            return found | {"tree"}
        return found | differing

    def sections(self, our: dns.message.Message, their: dns.message.Message, found: set[str]) -> set[str]:
        question = our.question[0]
        differing: set[str] = set()
        if our.rcode() != their.rcode():
            differing.add(f"rcode {our.rcode().name}, not {their.rcode().name}")
        ignored = ~(dns.flags.CD | 0xF)
        if our.flags & ignored != their.flags & ignored:
            differing.add(f"flags {dns.flags.to_text(our.flags)}, not {dns.flags.to_text(their.flags)}")
        answer, their_answer = lines(our.answer), lines(their.answer)
        if answer != their_answer:
            rrsets = [{line[:2] for line in lines} for lines in (answer, their_answer)]
            if question.rdtype == dns.rdatatype.ANY and [len(keys) for keys in rrsets] == [1, 1]:
                found.add("any")
            else:
                differing.add("answer")
        authority, their_authority = lines(our.authority), lines(their.authority)
        hosts: set[str] = set()
        if (
            their_answer
            and authority != their_authority
            and {line[1] for line in their_authority} == {dns.rdatatype.NS}
        ):
            if not authority:
                found.add("ns")
                hosts = {line[3] for line in their_authority}
            else:
                differing.add("authority")
        elif authority != their_authority:
            differing.add("authority")
        additional, their_additional = lines(our.additional), lines(their.additional)
        if "any" in found:
            return differing
        missing, extra = their_additional - additional, additional - their_additional
        if extra:
            cut_out = {
                (dns.name.Name([line[0][0], *self.match(line[0], self.of_zone(line[0]))[0]]), *line[1:])
                for line in extra
            }
            if cut_out <= their_additional and cut_out.isdisjoint(extra):
                found.add("made")
                missing -= cut_out
            else:
                differing.add("additional: too much")
        for line in missing:
            if line[0].to_text().lower() in hosts:
                continue
            if line[1] in _ADDRESSES and self.is_foreign(line[0], our):
                found.add("foreign")
            else:
                differing.add("additional: too little")
        return differing

    def zone_of(self, name: dns.name.Name) -> dns.name.Name | None:
        while name not in self.zones:
            if name == dns.name.root:
                return None
            name = name.parent()
        return name

    def is_foreign(self, host: dns.name.Name, our: dns.message.Message) -> bool:
        """Is it not for the zone that answered to know this host's addresses?"""
        last = [rrset for rrset in our.answer if rrset.rdtype == dns.rdatatype.CNAME]
        name = last[-1][0].target if last else our.question[0].name
        zone = self.zone_of(name)
        if zone is None or self.zone_of(host) != zone:
            return True
        return any(host.is_subdomain(cut) for cut in self.cuts if cut.is_subdomain(zone))

    def is_tree(self, our: dns.message.Message, their: dns.message.Message) -> bool:
        """Does a name that was looked at have a closer encloser in another zone than in its own?"""
        names = {our.question[0].name}
        for rrset in [*our.answer, *their.answer]:
            if rrset.rdtype == dns.rdatatype.CNAME:
                names.add(rrset[0].target)
        return any(self.match(name, self.anywhere) != self.match(name, self.of_zone(name)) for name in names)

    def of_zone(self, name: dns.name.Name) -> set[dns.name.Name]:
        zone = self.zone_of(name)
        return set() if zone is None else self.existing[zone]

    @staticmethod
    def match(name: dns.name.Name, existing: set[dns.name.Name]) -> tuple[dns.name.Name, bool]:
        """The closest encloser, and whether it has a wildcard."""
        while name not in existing and name != dns.name.root:
            name = name.parent()
        return name, dns.name.Name([b"*", *name.labels]) in existing


def test_random_questions_get_the_same_answers_from_nsd(gateway, nsd, free_port: Callable[[], int]) -> None:
    maker = Maker(SEED)
    world = maker.world(ZONES)
    layout = world.layout()
    running = gateway(layout, dns=f'[[dns.transfer]]\nnetwork = "127.0.0.1/32"\nkey = "{KEY}"')
    secondary = nsd(free_port(), running.port, list(layout))
    missing = list(layout)

    def complete() -> bool:
        while missing and secondary.serial(missing[-1]) is not None:
            missing.pop()
        return not missing

    secondary.wait_for(complete, f"copies of {len(layout)} zones")
    asked = list(queries(maker, world, QUESTIONS))
    judge = Judge(world)
    seen: Counter[str] = Counter()
    failures = []
    for query, our, their in zip(asked, exchange(running.port, asked), exchange(secondary.port, asked), strict=True):
        replies = dns.message.from_wire(our), dns.message.from_wire(their)
        found = judge.differences(*replies)
        if "size" in found or found - EXPLAINED.keys():
            message = dns.message.from_wire(query)
            replies = tuple(dns.query.tcp(message, "127.0.0.1", LIMIT, server.port) for server in (running, secondary))
            found = judge.differences(*replies) | {"size"}
        unexplained = found - EXPLAINED.keys()
        if unexplained:
            failures.append(f"===== {unexplained}\n{replies[0]}\n----- NSD:\n{replies[1]}\n")
        if "any" in found:
            chosen = replies[0].answer[0]
            message = dns.message.make_query(chosen.name, chosen.rdtype)
            reply = dns.query.tcp(message, "127.0.0.1", LIMIT, secondary.port)
            assert lines(reply.answer) == lines([chosen])
        seen.update(found or {"none"})
    assert not failures, f"{len(failures)} unexplained:\n{''.join(failures[:10])}"
    assert seen.keys() - {"none"} == EXPLAINED.keys()
