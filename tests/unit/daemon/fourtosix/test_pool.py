from __future__ import annotations

import base64
from collections.abc import Callable
from ipaddress import IPv6Network
from typing import Any

import nacl.bindings
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.fourtosix.pool import AddressPool


def test_vector_15_addresses(pool: AddressPool, known: dict[str, Any]) -> None:
    assert str(pool.gateway) == known["gateway"]
    assert {tid: str(pool.address_of(tid)) for tid in known["addresses"]} == known["addresses"]


def test_addresses_that_upstream_asserts(vectors: Callable[[str], dict[str, Any]]) -> None:
    upstream = vectors("identity")["upstream"]["fourtosix"]
    pool = AddressPool(upstream["seed_text"].encode())
    assert str(pool.gateway.network) == upstream["subnet"]
    assert {user: str(pool.address_of(user)) for user in upstream["addresses"]} == upstream["addresses"]


def test_vector_15_keys(pool: AddressPool, known: dict[str, Any]) -> None:
    assert base64.b64encode(pool.private_key).decode() == known["private_key"]
    assert base64.b64encode(pool.public_key).decode() == known["public_key"]


def test_c3_the_kernels_clamped_key_is_the_same_key(known: dict[str, Any]) -> None:
    clamped = base64.b64decode(known["clamped_private_key"])
    assert base64.b64encode(nacl.bindings.crypto_scalarmult_base(clamped)).decode() == known["public_key"]


def test_c3_a_derived_key_is_not_the_seed_and_gives_the_same_addresses(pool: AddressPool) -> None:
    derived = AddressPool(pool.seed, "derived")
    assert derived.private_key != pool.private_key
    assert len(derived.private_key) == 32
    # Pinned: another derivation would be another key in every user's configuration.
    assert derived.public_key.hex() == "6b4e0eec4673a2679ead3b55c71e263e1104067d39632de34bdec4cef1df9b01"
    assert (derived.gateway, derived.address_of("7")) == (pool.gateway, pool.address_of("7"))


def test_c3_a_pool_does_not_print_its_seed(pool: AddressPool) -> None:
    assert repr(pool) == "AddressPool(key_source='seed')"


@given(seed=st.binary(min_size=32, max_size=32), one=st.integers(0), other=st.integers(0))
def test_addresses_lie_in_the_subnet_and_differ(seed: bytes, one: int, other: int) -> None:
    pool = AddressPool(seed)
    assert pool.gateway.network.subnet_of(IPv6Network("fd00::/8"))
    assert pool.gateway.ip == pool.gateway.network[1]
    assert pool.address_of(str(one)) in pool.gateway.network
    assert (pool.address_of(str(one)) == pool.address_of(str(other))) is (one == other)
