from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.redis_schema import keys


def test_names_of_the_worked_examples() -> None:
    assert keys.zone_key("gw1.example") == "gw1.example."
    assert keys.zone_of_key(b"gw1.example.") == "gw1.example"
    assert keys.service_key("web.alice.example") == "/tcprouter/service/web.alice.example"
    assert keys.domain_of_service_key(b"/tcprouter/service/web.alice.example") == "web.alice.example"


@pytest.mark.parametrize(
    "key", [b"", b".", b"..", b"a..", b"zone", b"a.b", b"\xff.", b"a" * 255 + b".", b"tfgateway:status"]
)
def test_what_is_no_zone_key(key: bytes) -> None:
    assert keys.zone_of_key(key) is None


@pytest.mark.parametrize(
    "key",
    [
        b"/tcprouter/services/a",
        b"tcprouter/service/a",
        b"/tcprouter/service/\xff",
        b"/tcprouter/service/" + b"a" * 256,
        b"/tcprouter/service",
    ],
)
def test_what_is_no_service_key(key: bytes) -> None:
    assert keys.domain_of_service_key(key) is None


def test_r6_a_key_with_two_slashes_is_no_service() -> None:
    assert keys.domain_of_service_key(b"//tcprouter/service/web.example") is None


def test_t8_the_empty_domain_is_no_service() -> None:
    assert keys.domain_of_service_key(b"/tcprouter/service/") is None


def test_no_key_of_ours_can_be_taken_for_a_zone() -> None:
    for name in (keys.ZONE_OWNERS, keys.MANAGED_DOMAINS, keys.RESERVATIONS, keys.OUTBOX, keys.STATUS):
        assert keys.zone_of_key(name.encode()) is None


@given(st.binary(max_size=300))
def test_any_key_is_a_zone_or_a_service_or_neither(key: bytes) -> None:
    zone, domain = keys.zone_of_key(key), keys.domain_of_service_key(key)
    assert zone is None or keys.zone_key(zone).encode() == key
    assert domain is None or keys.service_key(domain).encode() == key
