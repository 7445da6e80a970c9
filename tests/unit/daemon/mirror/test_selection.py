from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.mirror import Selection


@pytest.mark.parametrize(
    ("glob", "wanted", "unwanted"),
    [
        (b"*.", [b"gw1.example.", b".", b"a\nb."], [b"gw1.example", b"", b"zone"]),
        (b"/tcprouter/service/*", [b"/tcprouter/service/a", b"/tcprouter/service/"], [b"//tcprouter/service/a"]),
        (b"pre:*.:post", [b"pre:gw1.example.:post"], [b"pre:gw1.example:post", b"gw1.example."]),
        (b"a?c", [b"abc", b"a\xffc"], [b"ac", b"abbc"]),
        (b"[a-c]x", [b"ax", b"cx"], [b"dx", b"-x"]),
        (b"[^a-c]x", [b"dx"], [b"ax", b"x"]),
        (b"\\*.", [b"*."], [b"a.", b"\\*."]),
        (b"(a|b)+", [b"(a|b)+"], [b"a", b"ab"]),
        (b"[]", [], [b"", b"]", b"[]"]),
    ],
)
def test_glob_selects_as_redis_does(glob: bytes, wanted: list[bytes], unwanted: list[bytes]) -> None:
    selection = Selection(glob)
    assert [key for key in wanted + unwanted if selection.wants(key)] == wanted


def test_accept_narrows_the_glob_and_is_not_asked_about_other_keys() -> None:
    asked: list[bytes] = []

    def accept(key: bytes) -> bool:
        asked.append(key)
        return key != b"b."

    selection = Selection(b"*.", accept)
    assert [key for key in (b"a.", b"b.", b"zone") if selection.wants(key)] == [b"a."]
    assert asked == [b"a.", b"b."]


@pytest.mark.parametrize(
    ("glob", "prefix"),
    [(b"*.", b""), (b"/tcprouter/service/*", b"/tcprouter/service/"), (b"a\\*b", b"a"), (b"x?", b"x"), (b"x[y]", b"x")],
)
def test_prefix_is_what_all_selected_keys_begin_with(glob: bytes, prefix: bytes) -> None:
    assert Selection(glob).prefixes == (prefix,)


def test_keys_that_come_first_are_reported_too_and_no_prefix_begins_with_another() -> None:
    assert Selection(b"dns:*.", first=(b"own",)).prefixes == (b"dns:", b"own")
    assert Selection(b"o*.", first=(b"own",)).prefixes == (b"o",)
    assert Selection(b"*.", first=(b"own",)).prefixes == (b"",)
    assert Selection(b"*.", first=(b"own",)).wants(b"own")


@given(glob=st.binary(max_size=12), key=st.binary(max_size=12))
def test_any_glob_is_usable_and_agrees_with_its_prefix(glob: bytes, key: bytes) -> None:
    selection = Selection(glob)
    if selection.wants(key):
        assert key.startswith(selection.prefixes)


@given(key=st.binary(min_size=1, max_size=12))
def test_a_fully_escaped_glob_selects_exactly_that_key(key: bytes) -> None:
    selection = Selection(b"".join(b"\\" + bytes([value]) for value in key))
    assert selection.wants(key)
    assert not selection.wants(key + b"x")
