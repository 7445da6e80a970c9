"""What is wrong with words is said without repeating them."""

from __future__ import annotations

import pytest
from ansible_collections.tfgrid.gateway.plugins.filter.mnemonic_problem import mnemonic_problem

GOOD = (
    "abandon amount liar amount expire adjust cage candy arch gather drum bullet absurd math era live bid rhythm "
    "alien crouch range attend journey unaware"
)


def test_the_words_of_the_vector_are_good():
    assert mnemonic_problem(GOOD) == ""
    assert mnemonic_problem(f"  {GOOD.replace(' ', chr(10))} \n") == ""


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("", "0 words, 24 are needed"),
        (" ".join(GOOD.split()[:12]), "12 words, 24 are needed"),
        (GOOD.replace("amount", "amuont", 1), "no BIP39 word at place 2"),
        (" ".join(reversed(GOOD.split())), "the checksum is wrong: a word is mistaken or out of order"),
    ],
)
def test_what_is_wrong_is_said_without_the_words(words, problem):
    said = mnemonic_problem(words)
    assert said == problem
    assert not set(said.split()) & (set(words.split()) - {"a", "is", "word", "of", "or"})
