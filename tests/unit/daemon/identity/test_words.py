from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import IdentityError
from tfgateway.identity.words import seed_from_words, words_from_seed


def test_vectors_1_and_2_words(party: dict[str, Any]) -> None:
    assert seed_from_words(party["words"]).hex() == party["seed"]
    assert words_from_seed(bytes.fromhex(party["seed"])) == party["words"]


@given(st.binary(min_size=32, max_size=32), st.sampled_from([" ", "\n", "\t", " \r\n ", "\u3000"]))
def test_words_round_trip_whatever_white_space_separates_them(seed: bytes, space: str) -> None:
    assert seed_from_words(space + space.join(words_from_seed(seed).split()) + space) == seed


@given(st.text(max_size=300) | st.lists(st.sampled_from(["abandon", "zoo", "x"]), max_size=30).map(" ".join))
def test_any_text_is_a_seed_or_an_identity_error(text: str) -> None:
    with contextlib.suppress(IdentityError):
        assert len(seed_from_words(text)) == 32


def test_twelve_words_are_too_few() -> None:
    with pytest.raises(IdentityError, match="24 words, not 12"):
        seed_from_words("abandon " * 11 + "about")


def test_an_unknown_word_is_named_by_its_place_and_not_repeated(known: dict[str, Any]) -> None:
    words = known["gateway"]["words"].split()
    words[6] = "cages"
    with pytest.raises(IdentityError, match="word 7") as caught:
        seed_from_words(" ".join(words))
    assert "cages" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_two_words_exchanged_fail_the_checksum(known: dict[str, Any]) -> None:
    words = known["gateway"]["words"].split()
    words[1], words[2] = words[2], words[1]
    with pytest.raises(IdentityError, match="checksum"):
        seed_from_words(" ".join(words))


def test_words_of_another_size_are_refused() -> None:
    with pytest.raises(IdentityError, match="wrong size 16"):
        words_from_seed(bytes(16))
