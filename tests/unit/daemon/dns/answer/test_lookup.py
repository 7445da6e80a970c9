"""What is answered for which name."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest

NOERROR, NXDOMAIN, REFUSED = dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.REFUSED
OWNER = '{"identity":"FAe4s","owner":"FAe4s"}'
SOA = "gw1.example. 300 IN SOA ns1.gateway.example. hostmaster.gw1.example. 1 86400 7200 3600000 300"


def addresses(*ips: str) -> dict[str, object]:
    return {"a": [{"ip": ip} for ip in ips]}


@pytest.fixture
def made_by_a_gateway(gateway):
    """One zone as the gateway writes it."""
    www = {"a": [{"ip": "203.0.113.5", "ttl": 3600}], "aaaa": [{"ip": "2001:db8::5", "ttl": 3600}]}
    return gateway({"gw1.example.": {"__owner__": {"txt": [{"text": OWNER, "ttl": 600}]}, "www": www}})


def test_clients_see_the_address(made_by_a_gateway) -> None:
    reply = made_by_a_gateway.ask("www.gw1.example", "A")
    assert made_by_a_gateway.lines(reply.answer) == ["www.gw1.example. 300 IN A 203.0.113.5"]
    assert reply.flags & dns.flags.AA
    assert not reply.flags & dns.flags.RA


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("www.gw1.example", "TXT"),
        ("www.gw1.example", "HTTPS"),
        ("gw1.example", "A"),
        ("gw1.example", "TXT"),
        ("gw1.example", "CAA"),
    ],
)
def test_clients_see_nodata_with_soa(made_by_a_gateway, name, kind) -> None:
    reply = made_by_a_gateway.ask(name, kind)
    assert (reply.rcode(), reply.answer) == (NOERROR, [])
    assert made_by_a_gateway.lines(reply.authority) == [SOA]
    assert reply.flags & dns.flags.AA


@pytest.mark.parametrize("name", ["nope.gw1.example", "a.www.gw1.example", "@.gw1.example"])
def test_d4_absent_name_is_nxdomain_with_soa(made_by_a_gateway, name) -> None:
    reply = made_by_a_gateway.ask(name)
    assert (reply.rcode(), reply.answer) == (NXDOMAIN, [])
    assert made_by_a_gateway.lines(reply.authority) == [SOA]
    assert reply.flags & dns.flags.AA


@pytest.mark.parametrize("name", ["other.example", "example", ".", "xgw1.example", "gw1.example.com"])
def test_d4_other_zone_is_refused(made_by_a_gateway, name) -> None:
    reply = made_by_a_gateway.ask(name)
    assert reply.rcode() == REFUSED
    assert not reply.answer + reply.authority + reply.additional
    assert not reply.flags & dns.flags.AA


def test_d5_d11_recursion_is_never_offered(made_by_a_gateway) -> None:
    for name in ("www.gw1.example", "other.example"):
        query = dns.message.make_query(name, "A")
        reply = dns.message.from_wire(made_by_a_gateway.exchange(query.to_wire()))
        assert reply.flags & dns.flags.RD  # repeated, RFC 1035 §4.1.1
        assert not reply.flags & dns.flags.RA


def test_d1_apex_has_synthesised_soa_and_ns(made_by_a_gateway) -> None:
    world = made_by_a_gateway
    assert world.lines(world.ask("gw1.example", "SOA").answer) == [SOA]
    assert world.lines(world.ask("gw1.example", "NS").answer) == [
        "gw1.example. 300 IN NS ns1.gateway.example.",
        "gw1.example. 300 IN NS ns2.gateway.example.",
    ]


def test_d1_stored_apex_ns_are_served_instead(gateway) -> None:
    world = gateway({"gw1.example.": {"@": {"ns": [{"host": "dns.other."}], **addresses("203.0.113.1")}}})
    assert world.lines(world.ask("gw1.example", "NS").answer) == ["gw1.example. 300 IN NS dns.other."]
    assert world.lines(world.ask("gw1.example", "SOA").answer) == [SOA]
    assert world.lines(world.ask("gw1.example", "A").answer) == ["gw1.example. 300 IN A 203.0.113.1"]


def test_d1_longest_possible_zone_name_has_a_soa(gateway) -> None:
    zone = ".".join(["abcdefghijklmno"] * 15 + ["abcdefghijklm"]) + "."
    assert len(zone) == 254
    reply = gateway({zone: {}}).ask(zone, "SOA", "tcp")
    assert reply.answer[0][0].rname.to_text() == zone


def test_owner_record_is_served_as_it_is(made_by_a_gateway) -> None:
    ((data,),) = made_by_a_gateway.ask("__owner__.gw1.example", "TXT").answer
    assert b"".join(data.strings) == OWNER.encode()


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        (["www", "*"], "nope", "*"),
        (["www", "*"], "a.b.c", "*"),
        (["www", "*"], "x.www", NXDOMAIN),
        (["a.b", "*"], "b", NOERROR),
        (["host1", "*"], "x.ost1", "*"),
        (["sub.*"], "x.*", NXDOMAIN),
        (["www"], "nope", NXDOMAIN),
        # Beyond the table: RFC 4592 §§2.2.2, 3.3.
        (["*"], "*", "*"),
        (["a.b", "*"], "x.b", NXDOMAIN),
        (["sub.*"], "nope", NOERROR),
        (["*.dev", "*"], "x.dev", "*.dev"),
        (["*.dev", "*"], "dev", NOERROR),
        (["*.dev", "*"], "x.y.dev", "*.dev"),
        (["*.dev", "a.dev"], "x.a.dev", NXDOMAIN),
        (["a.b.c.d"], "c.d", NOERROR),
        (["a.b.c.d"], "x.c.d", NXDOMAIN),
    ],
)
def test_d6_d7_wildcards_and_empty_non_terminals(gateway, fields, name, expected) -> None:
    ips = {field: f"192.0.2.{number}" for number, field in enumerate(fields, 1)}
    world = gateway({"z.": {field: addresses(ip) for field, ip in ips.items()}})
    reply = world.ask(f"{name}.z")
    if isinstance(expected, str):
        assert world.lines(reply.answer) == [f"{name}.z. 300 IN A {ips[expected]}"]
        assert not reply.authority
    else:
        assert (reply.rcode(), reply.answer) == (expected, [])
        assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]


def test_d6_wildcard_without_the_type_is_nodata(gateway) -> None:
    world = gateway({"z.": {"*": addresses("192.0.2.1")}})
    reply = world.ask("nope.z", "AAAA")
    assert (reply.rcode(), reply.answer) == (NOERROR, [])
    assert len(reply.authority) == 1


def test_name_with_an_empty_set_exists(gateway) -> None:
    world = gateway({"z.": {"www": {}, "*": addresses("192.0.2.1")}})
    assert world.ask("www.z").rcode() == NOERROR
    assert not world.ask("www.z").answer


def test_longest_zone_wins(gateway) -> None:
    world = gateway({"z.": {"www.sub": addresses("192.0.2.1")}, "sub.z.": {"www": addresses("192.0.2.2")}})
    assert world.ask("www.sub.z").answer[0][0].address == "192.0.2.2"


def test_name_above_another_zone_exists(gateway) -> None:
    """RFC 8020: NXDOMAIN would deny the zone below as well."""
    world = gateway({"z.": {}, "a.b.z.": {}})
    reply = world.ask("b.z")
    assert (reply.rcode(), len(reply.authority)) == (NOERROR, 1)
    assert world.ask("c.z").rcode() == NXDOMAIN


def test_p4_zone_below_takes_no_name_from_a_wildcard(gateway) -> None:
    world = gateway({"z.": {"*": addresses("192.0.2.1")}, "a.b.z.": {}})
    assert world.ask("b.z").answer[0][0].address == "192.0.2.1"


def test_ds_of_a_zone_is_asked_of_the_zone_above(gateway) -> None:
    """RFC 4035 §3.1.4.1."""
    world = gateway({"z.": {"@": addresses("192.0.2.1")}, "sub.z.": {}})
    (soa,) = world.ask("sub.z", "DS").authority
    assert soa.name.to_text() == "z."
    (soa,) = world.ask("z", "DS").authority
    assert soa.name.to_text() == "z."


def test_root_zone(gateway) -> None:
    world = gateway({".": {"www": addresses("192.0.2.1")}})
    assert world.ask("www").answer[0][0].address == "192.0.2.1"
    assert world.ask(".", "SOA").rcode() == NOERROR
    assert world.ask(".", "DS").rcode() == NOERROR
    assert world.ask("nope").rcode() == NXDOMAIN


class TestAliases:
    """D-8."""

    @pytest.fixture
    def world(self, gateway):
        return gateway(
            {
                "z.": {
                    "one": {"cname": [{"host": "TWO.z.", "ttl": 50}]},
                    "two": {"cname": [{"host": "www.Y"}]},
                    "away": {"cname": [{"host": "www.elsewhere."}]},
                    "nodata": {"cname": [{"host": "txt.z."}]},
                    "txt": {"txt": [{"text": "x"}]},
                    "nowhere": {"cname": [{"host": "absent.y."}]},
                    "loop": {"cname": [{"host": "pool.z."}]},
                    "pool": {"cname": [{"host": "loop.z."}]},
                    "self": {"cname": [{"host": "self.z."}]},
                    "wild": {"cname": [{"host": "any.w.z."}]},
                    "*.w": addresses("192.0.2.9"),
                    "*.grow": {"cname": [{"host": "x.grow.z."}]},
                    "delegated": {"cname": [{"host": "host.cut.z."}]},
                    "cut": {"ns": [{"host": "ns.cut.z."}]},
                    "ns.cut": addresses("192.0.2.53"),
                    "crowd": {"cname": [{"host": "two.z."}, {"host": "txt.z."}], "txt": [{"text": "hidden"}]},
                    **{f"c{n}": {"cname": [{"host": f"c{n + 1}.z."}]} for n in range(40)},
                },
                "y.": {"www": addresses("192.0.2.1")},
            }
        )

    def test_d8_chain_through_served_zones(self, world) -> None:
        reply = world.ask("one.z")
        assert [str(rrset) for rrset in reply.answer] == [
            "one.z. 50 IN CNAME TWO.z.",
            "TWO.z. 300 IN CNAME www.Y.",
            "www.Y. 300 IN A 192.0.2.1",
        ]
        assert reply.rcode() == NOERROR
        assert not reply.authority

    def test_d8_cname_query_is_not_followed(self, world) -> None:
        assert world.lines(world.ask("one.z", "CNAME").answer) == ["one.z. 50 IN CNAME TWO.z."]

    @pytest.mark.parametrize("kind", ["AAAA", "MX", "TXT", "HTTPS"])
    def test_d8_every_other_type_gets_the_cname(self, world, kind) -> None:
        reply = world.ask("one.z", kind)
        assert [rrset.rdtype for rrset in reply.answer] == [dns.rdatatype.CNAME] * 2
        assert [rrset.name for rrset in reply.authority] == [dns.name.from_text("y.")]

    def test_d8_any_on_an_alias_is_the_cname(self, world) -> None:
        assert world.lines(world.ask("one.z", "ANY").answer) == ["one.z. 50 IN CNAME TWO.z."]

    def test_d8_out_of_zone_target_is_left_to_the_resolver(self, world) -> None:
        reply = world.ask("away.z")
        assert (reply.rcode(), len(reply.answer), reply.authority) == (NOERROR, 1, [])
        assert reply.flags & dns.flags.AA

    def test_d8_target_without_the_type_is_nodata(self, world) -> None:
        reply = world.ask("nodata.z")
        assert (reply.rcode(), len(reply.answer), len(reply.authority)) == (NOERROR, 1, 1)

    def test_d8_absent_target_is_nxdomain_of_its_zone(self, world) -> None:
        """RFC 6604 §3, RFC 2308 §2.1."""
        reply = world.ask("nowhere.z")
        assert (reply.rcode(), len(reply.answer)) == (NXDOMAIN, 1)
        assert [rrset.name.to_text() for rrset in reply.authority] == ["y."]

    @pytest.mark.parametrize(("name", "length"), [("loop.z", 2), ("self.z", 1), ("a.grow.z", 2)])
    def test_d8_loops_end(self, world, name, length) -> None:
        reply = world.exchange(dns.message.make_query(name, "A").to_wire())
        assert (reply[3], reply[6:10]) == (NOERROR, bytes([0, length, 0, 0]))

    def test_d8_chain_is_bounded(self, world) -> None:
        assert len(world.ask("c0.z", transport="tcp").answer) == 16

    def test_d8_target_may_be_a_wildcard(self, world) -> None:
        assert "any.w.z. 300 IN A 192.0.2.9" in world.lines(world.ask("wild.z").answer)

    def test_d8_target_below_a_cut_is_a_referral_after_the_cname(self, world) -> None:
        reply = world.ask("delegated.z")
        assert len(reply.answer) == 1
        assert world.lines(reply.authority) == ["cut.z. 300 IN NS ns.cut.z."]
        assert reply.flags & dns.flags.AA  # of the first owner, RFC 1035 §4.1.1

    def test_d8_alias_has_one_target_and_nothing_else(self, world) -> None:
        assert world.lines(world.ask("crowd.z", "CNAME").answer) == ["crowd.z. 300 IN CNAME two.z."]
        assert "hidden" not in str(world.ask("crowd.z", "TXT"))

    def test_d8_alias_at_the_apex_stands_for_the_types_that_are_not_there(self, gateway) -> None:
        world = gateway({"z.": {"@": {"cname": [{"host": "www.y."}]}}, "y.": {"www": addresses("192.0.2.1")}})
        assert len(world.ask("z", "A").answer) == 2
        assert world.ask("z", "SOA").answer[0].rdtype == dns.rdatatype.SOA
        assert world.ask("z", "NS").answer[0].rdtype == dns.rdatatype.NS


class TestCuts:
    @pytest.fixture
    def world(self, gateway):
        return gateway(
            {
                "z.": {
                    "sub": {
                        "ns": [
                            {"host": "ns.sub.z."},
                            {"host": "ns.side.z."},
                            {"host": "ns.z."},
                            {"host": "x.other."},
                            {"host": "any.z."},
                        ],
                        "txt": [{"text": "hidden"}],
                    },
                    "ns.sub": {**addresses("192.0.2.1"), "aaaa": [{"ip": "2001:db8::1"}], "txt": [{"text": "x"}]},
                    "deep.sub": {"ns": [{"host": "other."}]},
                    "*.sub": addresses("192.0.2.66"),
                    "side": {"ns": [{"host": "ns.side.z."}]},
                    "ns.side": addresses("192.0.2.2"),
                    "ns": addresses("192.0.2.3"),
                    "*": addresses("192.0.2.99"),
                }
            }
        )

    @pytest.mark.parametrize("name", ["sub.z", "ns.sub.z", "x.sub.z", "a.b.deep.sub.z", "SUB.z"])
    @pytest.mark.parametrize("kind", ["A", "NS", "TXT", "ANY", "SOA"])
    def test_referral_at_and_below_a_cut(self, world, name, kind) -> None:
        reply = world.ask(name, kind)
        assert (reply.rcode(), reply.answer) == (NOERROR, [])
        assert not reply.flags & dns.flags.AA
        (servers,) = reply.authority
        assert servers.name == dns.name.from_text("sub.z")
        assert len(servers) == 5

    def test_addresses_of_all_servers_in_the_zone(self, world) -> None:
        """Glue below the cut as it stands; those beside it as the zone answers for them, by its wildcard too."""
        assert world.lines(world.ask("x.sub.z").additional) == [
            "any.z. 300 IN A 192.0.2.99",
            "ns.side.z. 300 IN A 192.0.2.2",
            "ns.sub.z. 300 IN A 192.0.2.1",
            "ns.sub.z. 300 IN AAAA 2001:db8::1",
            "ns.z. 300 IN A 192.0.2.3",
        ]

    def test_ds_at_a_cut_is_nodata_of_the_zone_above(self, world) -> None:
        reply = world.ask("sub.z", "DS")
        assert (reply.rcode(), reply.answer) == (NOERROR, [])
        assert reply.flags & dns.flags.AA
        assert [rrset.name.to_text() for rrset in reply.authority] == ["z."]

    def test_ds_below_a_cut_is_a_referral(self, world) -> None:
        assert not world.ask("x.sub.z", "DS").flags & dns.flags.AA

    def test_zone_served_here_answers_below_the_cut(self, world) -> None:
        world.table.put(world.zone("sub.z.", {"www": addresses("192.0.2.7")}))
        assert world.ask("www.sub.z").answer[0][0].address == "192.0.2.7"


class TestAdditional:
    """D-9."""

    @pytest.fixture
    def world(self, gateway):
        return gateway(
            {
                "z.": {
                    "@": {"ns": [{"host": "ns.z."}], "mx": [{"host": "mail.z."}]},
                    "ns": {**addresses("192.0.2.1"), "aaaa": [{"ip": "2001:db8::1"}], "txt": [{"text": "x"}]},
                    "mail": addresses("192.0.2.2"),
                    "foreign": {"mx": [{"host": "mail.y."}, {"host": "mail.elsewhere."}]},
                    "alias": {"cname": [{"host": "mail.z."}]},
                    "to-alias": {"mx": [{"host": "alias.z."}]},
                    "_sip._tcp": {"srv": [{"target": "any.w.z.", "port": 1}]},
                    "*.w": addresses("192.0.2.3"),
                    "cut": {"ns": [{"host": "mail.cut.z."}]},
                    "mail.cut": addresses("192.0.2.4"),
                    "to-cut": {"mx": [{"host": "mail.cut.z."}]},
                    "*": addresses("192.0.2.99"),
                    "twice": {"mx": [{"host": "mail.z.", "preference": 1}, {"host": "MAIL.z.", "preference": 2}]},
                },
                "y.": {"mail": addresses("192.0.2.5")},
            }
        )

    @pytest.mark.parametrize(
        ("name", "kind", "expected"),
        [
            ("z", "NS", ["ns.z. 300 IN A 192.0.2.1", "ns.z. 300 IN AAAA 2001:db8::1"]),
            ("z", "MX", ["mail.z. 300 IN A 192.0.2.2"]),
            ("_sip._tcp.z", "SRV", ["any.w.z. 300 IN A 192.0.2.3"]),
            ("foreign.z", "MX", []),
            ("to-alias.z", "MX", []),
            ("to-cut.z", "MX", []),
            ("twice.z", "MX", ["mail.z. 300 IN A 192.0.2.2"]),
        ],
    )
    def test_d9_addresses_of_the_zone_itself_only(self, world, name, kind, expected) -> None:
        assert world.lines(world.ask(name, kind).additional) == expected


def test_any_is_answered_with_one_rrset(gateway) -> None:
    """RFC 8482 §4.1."""
    world = gateway({"z.": {"www": {**addresses("192.0.2.1", "192.0.2.2"), "txt": [{"text": "x"}]}, "a.b": {}}})
    for name in ("www.z", "z"):
        assert len(world.ask(name, "ANY").answer) == 1
    for name in ("b.z", "a.b.z"):
        assert (world.ask(name, "ANY").rcode(), world.ask(name, "ANY").answer) == (NOERROR, [])
    assert world.ask("c.z", "ANY").rcode() == NXDOMAIN


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_d10_zones_are_not_for_everybody_to_copy(made_by_a_gateway, kind, transport) -> None:
    reply = made_by_a_gateway.ask("gw1.example", kind, transport)
    assert (reply.rcode(), reply.answer) == (REFUSED, [])


@pytest.mark.parametrize("rdclass", ["CH", "HS", "ANY", "NONE"])
def test_other_classes_are_refused(made_by_a_gateway, rdclass) -> None:
    assert made_by_a_gateway.ask("www.gw1.example", "A", rdclass=rdclass).rcode() == REFUSED
