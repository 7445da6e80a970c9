"""How often registrations may fail."""

from __future__ import annotations

from pathlib import Path

from tfgateway.tunnel.digest import digest_of
from tfgateway.tunnel.gateway.failure_budget import FailureBudget
from tfgateway.tunnel.links.shared_key import shared_key


def test_t4_a_source_that_fails_too_often_waits_and_is_forgiven() -> None:
    budget = FailureBudget(burst=3, per_second=0.5)
    for _ in range(3):
        assert not budget.exhausted("192.0.2.1", 0.0)
        budget.failed("192.0.2.1", 0.0)
    assert budget.exhausted("192.0.2.1", 0.0)
    assert not budget.exhausted("192.0.2.2", 0.0)
    assert budget.exhausted("192.0.2.1", 1.9)
    assert not budget.exhausted("192.0.2.1", 2.0)


def test_t4_a_network_of_ipv6_is_one_source() -> None:
    budget = FailureBudget(burst=1, per_second=0.1)
    budget.failed("2001:db8::1", 0.0)
    assert budget.exhausted("2001:db8::ffff:2", 0.0)
    assert not budget.exhausted("2001:db8:0:1::1", 0.0)


def test_t4_what_is_remembered_of_strangers_is_bounded() -> None:
    budget = FailureBudget(burst=1, per_second=0.0)
    for number in range(20_000):
        budget.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(budget._spent) == 10_000


def test_all_workers_of_a_gateway_have_one_key(tmp_path: Path) -> None:
    key = shared_key(tmp_path / "key")
    assert shared_key(tmp_path / "key") == key
    assert len(key) == 32
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert digest_of(key, b"7:a") != digest_of(key, b"7:b")
    assert digest_of(key, b"7:a") != digest_of(bytes(32), b"7:a")
