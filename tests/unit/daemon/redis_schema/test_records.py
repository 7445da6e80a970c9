from __future__ import annotations

import ipaddress
import json
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.records import (
    Address,
    Caa,
    Host,
    Mx,
    RecordSet,
    Soa,
    Srv,
    Text,
    canonical_address,
    decode_records,
    edit_addresses,
    owner_record,
)

ADDRESSES = st.ip_addresses().map(str)
TTLS = st.integers(0, 2**32 - 1)
SUBDOMAIN = b'{"a":[{"ip":"203.0.113.5","ttl":3600}],"aaaa":[{"ip":"2001:db8::5","ttl":3600}]}'


def decode(value: object) -> tuple[RecordSet, tuple[str, ...]]:
    return decode_records(value if isinstance(value, bytes) else json.dumps(value).encode())


class TestReading:
    def test_worked_example_of_a_subdomain(self, known: dict[str, Any]) -> None:
        assert decode_records(known["subdomain"]["stored"].encode()) == (
            RecordSet(a=(Address("203.0.113.5", 3600),), aaaa=(Address("2001:db8::5", 3600),)),
            (),
        )

    def test_every_type_in_the_form_of_the_dns_plugin(self) -> None:
        found, problems = decode(
            {
                "a": [{"ttl": 1, "ip": "192.0.2.1"}],
                "aaaa": [{"ttl": 2, "ip": "2001:DB8:0::1"}],
                "txt": [{"ttl": 3, "text": 'a "quoted" é'}],
                "cname": [{"ttl": 4, "host": "a.example."}],
                "ns": [{"ttl": 5, "host": "ns.example."}],
                "mx": [{"ttl": 6, "host": "mx.example.", "preference": 10}],
                "srv": [{"ttl": 7, "priority": 1, "weight": 2, "port": 5060, "target": "sip.example."}],
                "caa": [{"flag": 128, "tag": "issue", "value": "ca.example"}],
                "soa": {
                    "ttl": 8,
                    "ns": "ns.example.",
                    "MBox": "hostmaster.example.",
                    "refresh": 1,
                    "retry": 2,
                    "expire": 3,
                    "minttl": 4,
                },
            }
        )
        assert problems == ()
        assert found == RecordSet(
            a=(Address("192.0.2.1", 1),),
            aaaa=(Address("2001:db8::1", 2),),
            txt=(Text('a "quoted" é', 3),),
            cname=(Host("a.example.", 4),),
            ns=(Host("ns.example.", 5),),
            mx=(Mx("mx.example.", 10, 6),),
            srv=(Srv("sip.example.", port=5060, priority=1, weight=2, ttl=7),),
            caa=(Caa(128, "issue", "ca.example"),),
            soa=Soa("ns.example.", "hostmaster.example.", refresh=1, retry=2, expire=3, minttl=4, ttl=8),
        )

    @pytest.mark.parametrize(
        ("raw", "found"),
        [
            (b'{"A":[{"IP":"192.0.2.1","TTL":5}]}', RecordSet(a=(Address("192.0.2.1", 5),))),
            (b'{"a":[{"ip":"192.0.2.1"}]}', RecordSet(a=(Address("192.0.2.1", 0),))),
            (b'{"a":[{"ip":"192.0.2.1","ttl":null,"note":"x"}]}', RecordSet(a=(Address("192.0.2.1", 0),))),
            (b'{"a":[{"ip":"192.0.2.1"}],"A":[{"ip":"192.0.2.2"}]}', RecordSet(a=(Address("192.0.2.2", 0),))),
            (b'{"soa":{"ns":"n","MBOX":"m"}}', RecordSet(soa=Soa("n.", "m."))),
            (b'{"soa":{"ns":"n"}}', RecordSet(soa=Soa("n.", ""))),
            (b'{"soa":{"mbox":"m"}}', RecordSet()),
            (b'{"unknown":{"x":[1]}}', RecordSet()),
            (b'{"a":[]}', RecordSet()),
            (b'{"a":null,"soa":null}', RecordSet()),
            (b' {"txt":[{"text":"x"}]} \r\n', RecordSet(txt=(Text("x", 0),))),
            (b"null", RecordSet()),
        ],
    )
    def test_what_go_accepts_is_accepted(self, raw: bytes, found: RecordSet) -> None:
        assert decode_records(raw) == (found, ())

    @pytest.mark.parametrize("raw", [b"", b" ", b"{}", b"{ }"])
    def test_r5_the_empty_forms_are_an_empty_set(self, raw: bytes) -> None:
        assert decode_records(raw) == (RecordSet(), ())

    @pytest.mark.parametrize(
        ("name", "good", "bad"),
        [
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "ttl": -1}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "ttl": 1.5}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "ttl": 300.0}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "ttl": "300"}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "ttl": True}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "ttl": 2**32}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.1", "ttl": 10**400}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2"}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.256"}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.01"}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "192.0.2.1\n"}),
            ("a", {"ip": "192.0.2.1"}, {"ip": ""}),
            ("a", {"ip": "192.0.2.1"}, {"ip": 5}),
            ("a", {"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}),
            ("a", {"ip": "192.0.2.1"}, {"ttl": 300}),
            ("a", {"ip": "192.0.2.1"}, {}),
            ("a", {"ip": "192.0.2.1"}, []),
            ("a", {"ip": "192.0.2.1"}, "192.0.2.2"),
            ("aaaa", {"ip": "2001:db8::1"}, {"ip": "192.0.2.1"}),
            ("aaaa", {"ip": "2001:db8::1"}, {"ip": "::ffff:192.0.2.1"}),
            ("aaaa", {"ip": "2001:db8::1"}, {"ip": "fe80::1%eth0"}),
            ("aaaa", {"ip": "2001:db8::1"}, {"ip": "2001:db8:::1"}),
            ("txt", {"text": "x"}, {"text": ""}),
            ("txt", {"text": "x"}, {"text": ["x"]}),
            ("cname", {"host": "a."}, {"host": ""}),
            ("ns", {"host": "a."}, {"host": None}),
            ("mx", {"host": "a."}, {"host": "b.", "preference": 65536}),
            ("mx", {"host": "a."}, {"host": "b.", "preference": -1}),
            ("srv", {"target": "a."}, {"target": "b.", "port": 65536}),
            ("srv", {"target": "a."}, {"host": "b."}),
            ("caa", {"tag": "issue", "value": ";"}, {"tag": "issue", "value": ";", "flag": 256}),
            ("caa", {"tag": "issue", "value": ";"}, {"tag": "", "value": ";"}),
            ("caa", {"tag": "issue", "value": ";"}, {"tag": "issue"}),
        ],
    )
    def test_d2_a_faulty_element_costs_itself_only(self, name: str, good: object, bad: object) -> None:
        alone, _ = decode({name: [good], "txt" if name != "txt" else "cname": [{"text": "n", "host": "n."}]})
        found, problems = decode(
            {name: [bad, good], "txt" if name != "txt" else "cname": [{"text": "n", "host": "n."}]}
        )
        assert len(getattr(found, name)) == 1
        assert found == alone
        assert len(problems) == 1
        assert problems[0].startswith(f"{name}[0]: ")

    @pytest.mark.parametrize(
        ("raw", "problem"),
        [
            (b'{"a":{"ip":"192.0.2.9"},"txt":[{"text":"n"}]}', "a: not a list"),
            (b'{"soa":[{"ns":"n."}],"txt":[{"text":"n"}]}', "soa: not an object"),
            (b'{"soa":{"ns":"n.","refresh":-1},"txt":[{"text":"n"}]}', "soa: refresh is not a number of 32 bits"),
            (b'{"soa":{"ns":5},"txt":[{"text":"n"}]}', "soa: ns is not text"),
            (b'{"txt":[{"text":"n"}]}]', "data follows the JSON object"),
            (b'{"txt":[{"text":"n"}]}{"a":[]}', "data follows the JSON object"),
            (b'{"txt":[{"text":"n"}],"a":[{"ip":"192.0.2.1","ttl":1e999}]}', "a[0]: ttl is not a number of 32 bits"),
        ],
    )
    def test_d2_a_faulty_list_or_tail_costs_itself_only(self, raw: bytes, problem: str) -> None:
        assert decode_records(raw) == (RecordSet(txt=(Text("n", 0),)), (problem,))

    @pytest.mark.parametrize(
        "raw",
        [b"x", b"[]", b"5", b'"a"', b'{"a":[', b"\xff", b"\x00" * 100, b"[" * 100_000, b'{"a":' * 100_000, b"NaN"],
    )
    def test_d2_a_field_without_an_object_is_empty_with_a_problem(self, raw: bytes) -> None:
        found, problems = decode_records(raw)
        assert found == RecordSet()
        assert len(problems) == 1

    def test_r3_null_left_by_the_old_gateway_is_skipped_in_silence(self) -> None:
        assert decode_records(b'{"mx":[null,{"host":"a."}],"srv":[null]}') == (RecordSet(mx=(Mx("a."),)), ())

    def test_r4_an_address_written_as_nil_is_skipped(self) -> None:
        found, problems = decode_records(b'{"aaaa":[{"ip":"<nil>","ttl":3600},{"ip":"2001:db8::5","ttl":3600}]}')
        assert found == RecordSet(aaaa=(Address("2001:db8::5", 3600),))
        assert problems == ("aaaa[0]: '<nil>' is not an IP address",)

    def test_d3_names_get_their_final_dot(self) -> None:
        found, problems = decode(
            {
                "cname": [{"host": "a.example"}],
                "ns": [{"host": "b.example"}],
                "mx": [{"host": "c.example"}],
                "srv": [{"target": "d.example"}, {"target": "."}],
                "soa": {"ns": "e.example", "mbox": "f.example"},
            }
        )
        assert problems == ()
        assert found == RecordSet(
            cname=(Host("a.example."),),
            ns=(Host("b.example."),),
            mx=(Mx("c.example."),),
            srv=(Srv("d.example."), Srv(".")),
            soa=Soa("e.example.", "f.example."),
        )

    def test_an_ipv4_mapped_literal_is_an_ipv4_address(self) -> None:
        assert decode({"a": [{"ip": "::ffff:192.0.2.1"}]}) == (RecordSet(a=(Address("192.0.2.1"),)), ())

    def test_broken_utf_8_and_lone_surrogates_become_replacement_characters(self) -> None:
        found, problems = decode_records(b'{"txt":[{"text":"a\xffb"},{"text":"\\ud800x"},{"text":"\\ud83d\\ude00"}]}')
        assert [item.text for item in found.txt] == ["a\ufffdb", "\ufffdx", "\U0001f600"]
        assert problems == ()

    def test_a_huge_field_is_not_looked_at(self) -> None:
        raw = b'{"txt":[{"text":"' + b"x" * 1024 * 1024 + b'"}]}'
        assert decode_records(raw) == (RecordSet(), ("larger than 1048576 bytes",))

    def test_the_list_of_problems_is_bounded(self) -> None:
        _, problems = decode({"a": [5] * 1000})
        assert len(problems) == 17
        assert problems[-1] == "and 984 more"

    def test_a_problem_is_one_printable_line(self) -> None:
        _, problems = decode({"a": [{"ip": "\x1b[31m\nx" * 1000}]})
        assert problems[0].isprintable()
        assert len(problems[0]) < 400

    def test_records_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            RecordSet().a = ()  # type: ignore[misc]

    @given(st.lists(st.tuples(ADDRESSES, TTLS), max_size=5), st.lists(st.tuples(st.text(min_size=1), TTLS), max_size=3))
    def test_the_fast_way_and_the_tolerant_way_agree(
        self, addresses: list[tuple[str, int]], texts: list[tuple[str, int]]
    ) -> None:
        value = {
            "a": [{"ip": ip, "ttl": ttl} for ip, ttl in addresses if ":" not in ip],
            "aaaa": [{"ip": ip, "ttl": ttl} for ip, ttl in addresses if ":" in ip],
            "txt": [{"text": text, "ttl": ttl} for text, ttl in texts],
        }
        # An unknown member is what the fast way does not take.
        assert decode(value) == decode({**value, "unknown": 1})

    @given(
        st.binary(max_size=200)
        | st.dictionaries(
            st.sampled_from(["a", "AAAA", "txt", "cname", "ns", "mx", "srv", "caa", "soa", "x"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ADDRESSES,
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["ip", "ttl", "text", "host", "Target", "ns", "mbox", "tag", "value", "port"]),
                        inner,
                        max_size=4,
                    )
                ),
                max_leaves=12,
            ),
        ).map(lambda value: json.dumps(value).encode())
    )
    def test_any_bytes_are_a_record_set_that_can_be_served(self, raw: bytes) -> None:
        found, problems = decode_records(raw)
        assert len(problems) <= 17
        assert all(problem.isprintable() for problem in problems)
        for item in found.a:
            assert socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, item.ip)) == item.ip
        for item in found.aaaa:
            assert str(ipaddress.IPv6Address(item.ip)) == item.ip
        for name in (*(item.host for item in (*found.cname, *found.ns)), *(item.host for item in found.mx)):
            assert name.endswith(".")
            name.encode()
        for text in found.txt:
            assert text.text.encode()

    @given(st.integers(0, 200))
    def test_a_field_cut_off_anywhere_is_no_more_than_a_problem(self, length: int) -> None:
        found, problems = decode_records(SUBDOMAIN[:length])
        whole = length >= len(SUBDOMAIN)
        assert bool(found.a) == whole
        assert bool(problems) == (not whole and length > 0)


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("192.0.2.1", "192.0.2.1"),
            ("255.255.255.255", "255.255.255.255"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::FFFF:C000:201", "192.0.2.1"),
            ("2001:DB8::5", "2001:db8::5"),
            ("2001:db8:0:0:0:0:0:5", "2001:db8::5"),
            ("2001:db8:0:1:0:0:0:1", "2001:db8:0:1::1"),
            ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            ("::", "::"),
            ("::1.2.3.4", "::102:304"),
        ],
    )
    def test_the_form_that_go_prints(self, text: str, canonical: str) -> None:
        assert canonical_address(text) == canonical

    @pytest.mark.parametrize(
        "text",
        ["", "<nil>", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4 ", "1.2.3.4\n", "١.2.3.4", "::1%lo", "[::1]", "a"],
    )
    def test_what_is_no_address(self, text: str) -> None:
        assert canonical_address(text) is None

    @given(st.ip_addresses(v=6))
    def test_ipv6_agrees_with_the_operating_system(self, address: ipaddress.IPv6Address) -> None:
        for text in (address.exploded, address.compressed, address.compressed.upper()):
            expected = socket.inet_ntop(socket.AF_INET6, address.packed)
            canonical = canonical_address(text)
            assert canonical is not None
            assert canonical == (str(address.ipv4_mapped) if address.ipv4_mapped else str(address))
            assert "." in expected or canonical == expected

    @given(st.from_regex(r"[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,8}", fullmatch=True))
    def test_the_quick_look_takes_nothing_that_is_not_canonical(self, text: str) -> None:
        canonical = canonical_address(text)
        try:
            address = ipaddress.IPv6Address(text)
        except ValueError:
            assert canonical is None
        else:
            assert canonical == str(address.ipv4_mapped or address)


class TestWriting:
    def test_vector_14_owner_records(self, known: dict[str, Any]) -> None:
        lengths = []
        for example in known["owner_records"]:
            raw = owner_record(known["node_id"], example["owner"])
            assert raw == example["stored"].encode()
            lengths.append(len(decode_records(raw)[0].txt[0].text))
        assert lengths == [112, 70]

    def test_worked_example_of_a_subdomain(self, known: dict[str, Any]) -> None:
        addresses, stored = known["subdomain"]["addresses"], known["subdomain"]["stored"].encode()
        assert edit_addresses(None, remove=(), add=addresses) == stored
        assert edit_addresses(stored, remove=addresses, add=()) is None
        assert edit_addresses(stored, remove=addresses[1:], add=()) == b'{"a":[{"ip":"203.0.113.5","ttl":3600}]}'

    @pytest.mark.parametrize("raw", [None, b"", b"{}", b"null", b'{"a":[]}', b'{"A":null,"aaaa":[]}'])
    def test_r5_nothing_left_is_no_field_instead_of_an_empty_one(self, raw: bytes | None) -> None:
        assert edit_addresses(raw, remove=["192.0.2.1"], add=()) is None

    def test_r3_foreign_types_and_unknown_members_keep_their_bytes(self) -> None:
        foreign = b'"mx":[ {"host":"m.","preference":1e1} ],"soa":{"MBox":"h","ns":"n"},"x":{"y": [1,\n2]}'
        raw = b"{" + foreign + b',"a":[{"ip":"192.0.2.1","ttl":60,"note":"by hand"}]}'
        added = edit_addresses(raw, remove=(), add=["192.0.2.2"])
        assert added == (
            b'{"a":[{"ip":"192.0.2.1","ttl":60,"note":"by hand"},{"ip":"192.0.2.2","ttl":3600}],' + foreign + b"}"
        )
        assert edit_addresses(added, remove=["192.0.2.1", "192.0.2.2"], add=()) == b"{" + foreign + b"}"

    def test_r3_what_can_be_read_of_a_damaged_field_is_kept(self) -> None:
        raw = b'{"mx":[{"host":"m."}]} and more'
        assert edit_addresses(raw, remove=(), add=["192.0.2.1"]) == (
            b'{"a":[{"ip":"192.0.2.1","ttl":3600}],"mx":[{"host":"m."}]}'
        )

    def test_r4_nil_addresses_go_when_the_field_is_written(self) -> None:
        raw = b'{"aaaa":[{"ip":"<nil>","ttl":3600}]}'
        assert edit_addresses(raw, remove=["<nil>", ""], add=()) is None
        assert edit_addresses(raw, remove=(), add=["192.0.2.1"]) == b'{"a":[{"ip":"192.0.2.1","ttl":3600}]}'

    def test_another_element_that_cannot_be_read_is_not_ours_to_remove(self) -> None:
        raw = b'{"a":[{"ip":"192.0.2"},5,{"ip":"192.0.2.1","ttl":-1}]}'
        assert edit_addresses(raw, remove=["192.0.2"], add=()) == raw

    def test_addresses_are_compared_by_value(self) -> None:
        raw = b'{"a":[{"ip":"::ffff:192.0.2.1"}],"aaaa":[{"ip":"2001:DB8:0::5","ttl":9}]}'
        assert edit_addresses(raw, remove=(), add=["192.0.2.1", "2001:db8::5"]) == raw
        assert edit_addresses(raw, remove=["192.0.2.1", "2001:db8:0:0::5"], add=()) is None

    def test_members_in_another_case_are_joined_because_go_would_lose_one(self) -> None:
        raw = b'{"A":[{"ip":"192.0.2.1","ttl":1}],"a":[{"ip":"192.0.2.2","ttl":2}]}'
        assert edit_addresses(raw, remove=(), add=()) == (
            b'{"a":[{"ip":"192.0.2.1","ttl":1},{"ip":"192.0.2.2","ttl":2}]}'
        )

    def test_removing_and_adding_an_address_renews_it(self) -> None:
        raw = b'{"a":[{"ip":"192.0.2.1","ttl":5}]}'
        assert edit_addresses(raw, remove=["192.0.2.1"], add=["192.0.2.1"], ttl=60) == (
            b'{"a":[{"ip":"192.0.2.1","ttl":60}]}'
        )

    @pytest.mark.parametrize("raw", [b"x", b"[]", b'{"a":', b"[" * 5000, b'{"a":{"ip":"192.0.2.9"}}', b'{"a":5}'])
    def test_what_no_reader_can_use_is_replaced(self, raw: bytes) -> None:
        assert edit_addresses(raw, remove=(), add=["192.0.2.1"]) == b'{"a":[{"ip":"192.0.2.1","ttl":3600}]}'

    @pytest.mark.parametrize("text", ["", "<nil>", "example.org", "192.0.2.1/32", "fe80::1%eth0"])
    def test_p22_what_is_no_address_is_never_written(self, text: str) -> None:
        with pytest.raises(SchemaError, match="is not an IP address"):
            edit_addresses(None, remove=(), add=[text])

    @given(
        st.binary(max_size=80) | st.sampled_from([SUBDOMAIN, b'{"mx":[{"host":"m."}]}', b"{}"]),
        st.lists(ADDRESSES, max_size=4),
        st.lists(ADDRESSES, max_size=4),
    )
    def test_editing_is_total_repeatable_and_can_be_undone(self, raw: bytes, add: list[str], remove: list[str]) -> None:
        once = edit_addresses(raw, remove=remove, add=add)
        assert edit_addresses(once, remove=(), add=add) == once
        if once is None:
            assert not add
            return
        found, problems = decode_records(once)
        assert not problems
        present = {item.ip for item in (*found.a, *found.aaaa)}
        assert {canonical_address(text) for text in add} <= present
        assert present.isdisjoint(
            {canonical_address(text) for text in remove} - {canonical_address(text) for text in add}
        )
        bare = edit_addresses(once, remove=present, add=())
        assert bare is None or decode_records(bare)[0].a == decode_records(bare)[0].aaaa == ()
