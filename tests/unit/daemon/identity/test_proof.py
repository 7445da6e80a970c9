"""Tokens of TXT records: the same for user and gateway, found among whatever else a name says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import CryptoError
from tfgateway.identity import proof_token
from tfgateway.identity.keys import Identity
from tfgateway.identity.sealing import shared_key

USER, GATEWAY, OTHER = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
NAME = "www.newcorp.example"
SEEDS = st.binary(min_size=32, max_size=32)
TOKEN = st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567", min_size=32, max_size=32)


def of_user(tid: str = "7", domain: str = NAME) -> str:
    return proof_token.token(USER.seed, GATEWAY.public_key, tid, domain)


@given(SEEDS, SEEDS, st.integers(1, 2**63).map(str), st.text(max_size=253))
def test_both_parties_derive_the_same(user: bytes, gateway: bytes, tid: str, domain: str) -> None:
    one, other = Identity.from_seed(user), Identity.from_seed(gateway)
    token = proof_token.token(one.seed, other.public_key, tid, domain)
    assert token == proof_token.token(other.seed, one.public_key, tid, domain)
    assert proof_token.tokens([proof_token.record_text(token).encode()]) == {token}


def test_it_is_of_one_user_gateway_and_name() -> None:
    others = {
        of_user("8"),
        of_user(domain="newcorp.example"),
        proof_token.token(USER.seed, OTHER.public_key, "7", NAME),
        proof_token.token(OTHER.seed, GATEWAY.public_key, "7", NAME),
    }
    assert len({of_user(), *others}) == 5


def test_it_says_nothing_about_the_key() -> None:
    """C-6: the key also encrypts tunnels' secrets."""
    key = shared_key(USER.seed, GATEWAY.public_key)
    assert key[:20].hex() not in of_user()
    assert of_user() == "lodsndoh237r3qpbkowhbcdjqddenibg"  # clients print it: it must not change


def test_a_key_that_is_none() -> None:
    with pytest.raises(CryptoError):
        proof_token.token(GATEWAY.seed, bytes(32), "7", NAME)


def test_where_it_is() -> None:
    assert proof_token.record_name(NAME) == "_tfgateway.www.newcorp.example"
    longest = ".".join(["a" * 60] * 4)
    assert proof_token.record_name(longest[:242]) == f"_tfgateway.{longest[:242]}"
    assert proof_token.record_name(longest[:243]) == ""


@given(st.lists(st.binary(max_size=600), max_size=40))
def test_anything_may_stand_there(texts: list[bytes]) -> None:
    found = proof_token.tokens(texts)
    assert len(found) <= 16
    assert all(proof_token.tokens([proof_token.record_text(token).encode()]) == {token} for token in found)


@given(st.lists(TOKEN, max_size=16, unique=True), st.lists(st.binary(max_size=80), max_size=20), st.randoms())
def test_all_are_found_among_others(tokens: list[str], others: list[bytes], chance: object) -> None:
    others = [text for text in others if not text.strip().lower().startswith(b"tfgateway-proof=")]
    texts = [*others, *(f" TFGateway-Proof={token.upper()}\n".encode() for token in tokens)]
    chance.shuffle(texts)  # type: ignore[attr-defined]
    assert proof_token.tokens(texts) == set(tokens)


@pytest.mark.parametrize(
    "text",
    [
        f"tfgateway-proof={'a' * 31}",
        f"tfgateway-proof={'a' * 33}",
        f"tfgateway-proof={'1' * 32}",
        f"tfgateway-proof = {'a' * 32}",
        f"v=spf1 tfgateway-proof={'a' * 32}",
        f"tfgateway-proof={'a' * 32} {'b' * 32}",
        "a" * 32,
    ],
)
def test_what_is_no_token(text: str) -> None:
    assert proof_token.tokens([text.encode()]) == frozenset()
