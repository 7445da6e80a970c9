"""How many connections may be open."""

from __future__ import annotations

import pytest
from tfgateway.proxy.limits import Admission


def test_t2_limit_in_total() -> None:
    admission = Admission(total=2, per_source=10)
    assert admission.enter("192.0.2.1")
    assert admission.enter("192.0.2.2")
    assert not admission.enter("192.0.2.3")
    admission.leave("192.0.2.1")
    assert admission.enter("192.0.2.3")


@pytest.mark.parametrize(
    ("first", "second", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
    ],
)
def test_t2_limit_for_a_source(first: str, second: str, other: str) -> None:
    admission = Admission(total=10, per_source=1)
    assert admission.enter(first)
    assert not admission.enter(second)
    assert admission.enter(other)
    admission.leave(first)
    assert admission.enter(second)


def test_refused_ones_are_not_counted_and_sources_are_forgotten() -> None:
    admission = Admission(total=10, per_source=1)
    for number in range(256):
        address = f"192.0.2.{number}"
        assert admission.enter(address)
        assert not admission.enter(address)
        admission.leave(address)
    assert not admission._by_source


def test_a_source_that_is_announced_later_has_its_limit() -> None:
    admission = Admission(total=3, per_source=1)
    assert admission.enter(None)
    assert admission.claim("192.0.2.1")
    assert admission.enter(None)
    assert not admission.claim("192.0.2.1")
    admission.leave(None)
    admission.leave("192.0.2.1")
    assert admission.enter("192.0.2.1")
    admission.take_in("192.0.2.1")
    admission.leave("192.0.2.1")
    admission.leave("192.0.2.1")
    assert not admission._by_source
