from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.explorer.servable import is_domain
from tfgateway.reconciler.planning.inputs.names import NameIndex, relative, suffixes


@pytest.mark.parametrize(
    "domain",
    ["a.b", "alice.example", "_acme-challenge.alice.example", "a-.b_c.D9", f"{'a' * 63}.example", "1.2.3.4.5"],
)
def test_valid_domains(domain: str) -> None:
    assert is_domain(domain)


@pytest.mark.parametrize(
    "domain",
    [
        "",
        "example",
        "alice.example.",
        ".alice.example",
        "a..b",
        "-a.example",
        "*.example",
        "a b.example",
        "ä.example",
        "a.example\n",
        "203.0.113.5",
        f"{'a' * 64}.example",
        ".".join(["a" * 63] * 4),
    ],
)
def test_invalid_domains(domain: str) -> None:
    assert not is_domain(domain)


def test_suffixes_and_relative_names() -> None:
    assert list(suffixes("a.b.c")) == ["a.b.c", "b.c", "c"]
    assert relative("a.b.gw1.example", "gw1.example") == "a.b"
    assert relative("gw1.example", "gw1.example") == ""


def test_index_answers_who_is_above_and_below() -> None:
    index = NameIndex({"example": "0", "gw1.example": "1", "www.gw1.example": "2", "xgw1.example": "3"})
    index.set("a.www.gw1.example", "4")
    assert list(index.at_or_above("b.www.gw1.example")) == [
        ("www.gw1.example", "2"),
        ("gw1.example", "1"),
        ("example", "0"),
    ]
    assert index.below("gw1.example") == [("www.gw1.example", "2"), ("a.www.gw1.example", "4")]
    assert index.below("a.www.gw1.example") == []
    index.discard("www.gw1.example")
    index.discard("never.there")
    assert "www.gw1.example" not in index
    assert index.get("a.www.gw1.example") == "4"
    assert index.below("gw1.example") == [("a.www.gw1.example", "4")]


_NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a-b", "_"]), min_size=1, max_size=4).map(".".join)


@given(held=st.dictionaries(_NAMES, st.text(max_size=1)), gone=st.lists(_NAMES), asked=_NAMES)
def test_index_finds_what_a_look_at_every_name_finds(held: dict[str, str], gone: list[str], asked: str) -> None:
    index = NameIndex({})
    for name, owner in held.items():
        index.set(name, owner)
    for name in gone:
        index.discard(name)
    left = {name: owner for name, owner in held.items() if name not in gone}
    assert index.items() == left
    assert sorted(index.below(asked)) == sorted((n, o) for n, o in left.items() if n.endswith("." + asked))
    above = [(n, o) for n, o in left.items() if n == asked or asked.endswith("." + n)]
    assert list(index.at_or_above(asked)) == sorted(above, key=lambda item: -len(item[0]))
