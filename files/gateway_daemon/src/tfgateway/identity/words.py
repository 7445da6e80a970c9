"""BIP39 words of a seed: the entropy itself, not BIP39's stretched seed."""

from __future__ import annotations

import functools

import mnemonic

from tfgateway.errors import IdentityError
from tfgateway.identity.keys import SEED_SIZE

WORD_COUNT = 24


@functools.cache
def _english() -> mnemonic.Mnemonic:
    return mnemonic.Mnemonic("english")


def words_from_seed(seed: bytes) -> str:
    """The 24 English words of 32 bytes, separated by one space. Errors: ``IdentityError``."""
    if len(seed) != SEED_SIZE:
        raise IdentityError(f"seed has the wrong size {len(seed)} and should be {SEED_SIZE}")
    return _english().to_mnemonic(seed)


def seed_from_words(words: str) -> bytes:
    """The 32 bytes behind 24 English words, checksum verified; any white space separates them.

    Errors: ``IdentityError``. Its text never repeats a word: the words are the secret.
    """
    listed = words.split()
    if len(listed) != WORD_COUNT:
        raise IdentityError(f"a mnemonic has {WORD_COUNT} words, not {len(listed)}")
    known = frozenset(_english().wordlist)
    for position, word in enumerate(listed, 1):
        if word not in known:
            raise IdentityError(f"word {position} of the mnemonic is not in the English BIP39 list")
    try:
        return bytes(_english().to_entropy(listed))
    except ValueError:
        raise IdentityError("the checksum of the mnemonic is wrong: a word is misspelt or misplaced") from None
