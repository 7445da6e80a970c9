from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.fourtosix.peers import Device, Present, commands, parse_dump, wanted_peers
from tfgateway.fourtosix.pool import AddressPool

A, B, C = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
DUMP = (
    f"cHJpdmF0ZQ==\t{A}\t3443\toff\n"
    f"{B}\t(none)\t192.0.2.2:51820\tfd00::2/128\t1700000000\t1024\t2048\t25\n"
    f"{C}\t(none)\t(none)\t(none)\t0\t0\t0\toff\n"
)


def right(address: str) -> Present:
    return Present(frozenset({address}), 25)


class TestDump:
    def test_what_wg_prints_is_read(self) -> None:
        assert parse_dump(DUMP.encode()) == Device(
            A, 3443, {B: Present(frozenset({"fd00::2/128"}), 25, 1700000000), C: Present(frozenset(), 0)}
        )

    def test_an_interface_without_a_key(self) -> None:
        assert parse_dump(b"(none)\t(none)\t53198\toff\n") == Device("", 53198, {})

    @given(st.one_of(st.binary(max_size=200), st.text("\t\n0A(none)=/25", max_size=200).map(str.encode)))
    def test_anything_is_a_device_or_a_parse_error(self, raw: bytes) -> None:
        with contextlib.suppress(ParseError):
            assert isinstance(parse_dump(raw), Device)

    @given(st.integers(0, len(DUMP) - 1))
    def test_c3_an_error_does_not_show_the_private_key(self, cut: int) -> None:
        for damaged in (DUMP[:cut].encode(), DUMP.encode()[:cut] + b"\xff", DUMP.replace("\t", " ").encode()):
            try:
                parse_dump(damaged)
            except ParseError as error:
                assert "cHJpdmF0ZQ==" not in str(error)


class TestWanted:
    def test_a_row_is_a_peer_with_the_users_address(self, pool: AddressPool, known: dict[str, Any]) -> None:
        wanted, problems = wanted_peers({b"7": known["user_public_key"].encode()}, pool)
        assert wanted == {known["user_public_key"]: f"{known['addresses']['7']}/128"}
        assert not problems

    def test_damaged_rows_do_not_keep_the_others(self, pool: AddressPool) -> None:
        rows = {b"7": b"short", b"8": A.encode(), b"user": B.encode(), b"9": b"\xff" * 44, b"-1": C.encode()}
        wanted, problems = wanted_peers(rows, pool)
        assert list(wanted) == [A]
        assert problems == [
            "user 7: not a WireGuard key: it is not base64",
            "user user: peer: the field is not a user's tid",
            "user 9: not a WireGuard key: it is not base64",
            "user -1: peer: the field is not a user's tid",
        ]

    def test_p18_a_key_of_two_users_is_the_first_users(self, pool: AddressPool) -> None:
        wanted, problems = wanted_peers({b"10": A.encode(), b"9": A.encode()}, pool)
        assert wanted == {A: f"{pool.address_of('9')}/128"}
        assert problems == ["user 10: the key is another user's"]

    def test_p18_two_texts_of_one_key_are_one_key(self, pool: AddressPool) -> None:
        same = A[:-2] + chr(ord(A[-2]) + 1) + "="
        assert base64.b64decode(same) == base64.b64decode(A)
        wanted, problems = wanted_peers({b"7": same.encode(), b"8": A.encode()}, pool)
        assert wanted == {A: f"{pool.address_of('7')}/128"}
        assert len(problems) == 1

    def test_the_gateways_own_key_is_nobodys(self, pool: AddressPool, known: dict[str, Any]) -> None:
        assert wanted_peers({b"7": known["public_key"].encode()}, pool) == (
            {},
            ["user 7: the key is the gateway's own"],
        )

    @given(st.dictionaries(st.binary(max_size=8), st.binary(max_size=48), max_size=5))
    def test_nothing_in_redis_raises(self, rows: dict[bytes, bytes]) -> None:
        wanted, problems = wanted_peers(rows, AddressPool(bytes(32)))
        assert len(wanted) + len(problems) == len(rows)


class TestCommands:
    def test_nothing_to_do(self) -> None:
        assert commands("wg0", {A: "fd00::1/128"}, {A: right("fd00::1/128")}) == []

    def test_removals_come_before_additions(self) -> None:
        assert commands("wg0", {A: "fd00::1/128"}, {B: right("fd00::1/128")}) == [
            ("set", "wg0", "peer", B, "remove"),
            ("set", "wg0", "peer", A, "persistent-keepalive", "25", "allowed-ips", "fd00::1/128"),
        ]

    @pytest.mark.parametrize(
        "present",
        [
            Present(frozenset(), 25),
            Present(frozenset({"fd00::2/128"}), 25),
            Present(frozenset({"fd00::1/128", "::/0"}), 25),
            Present(frozenset({"fd00::1/128"}), 0),
        ],
    )
    def test_what_others_changed_is_put_right(self, present: Present) -> None:
        (command,) = commands("wg0", {A: "fd00::1/128"}, {A: present})
        assert command[2:] == ("peer", A, "persistent-keepalive", "25", "allowed-ips", "fd00::1/128")

    def test_a_command_has_a_bounded_length(self) -> None:
        wanted = {str(number): f"fd00::{number:x}/128" for number in range(250)}
        assert [command.count("peer") for command in commands("wg0", wanted, {})] == [100, 100, 50]

    @given(
        wanted=st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2", "3"]), max_size=4),
        present=st.dictionaries(
            st.sampled_from("abcd"), st.builds(Present, st.frozensets(st.sampled_from("123")), st.just(25)), max_size=4
        ),
    )
    def test_the_commands_lead_to_what_is_wanted(self, wanted: dict[str, str], present: dict[str, Present]) -> None:
        # As pools give them, no two users have one address.
        wanted = {key: address for key, address in wanted.items() if list(wanted.values()).count(address) == 1}
        table = {key: set(one.allowed_ips) for key, one in present.items()}
        for command in commands("wg0", wanted, present):
            for words in " ".join(command[2:]).split("peer ")[1:]:
                key, *options = words.split()
                if options == ["remove"]:
                    del table[key]
                    continue
                for other in table.values():
                    other.discard(options[-1])
                table[key] = {options[-1]}
        assert table == {key: {address} for key, address in wanted.items()}
