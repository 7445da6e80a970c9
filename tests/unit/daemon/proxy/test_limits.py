"""How many connections may be open."""

from __future__ import annotations

import msgspec
import pytest
from tfgateway.proxy.limits import Admission
from tfgateway.proxy.server import of_one_worker
from tfgateway.settings import ProxySettings


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


def test_workers_share_the_limits_in_total_and_no_others() -> None:
    """A source, or a client whose service is not known yet, is not refused because of the worker that it got."""
    settings = ProxySettings(max_connections=10, max_connections_per_source=5, max_unmatched=9, tunnel_unknown=6)
    own = of_one_worker(settings, 4)
    assert own == msgspec.structs.replace(settings, max_connections=3, max_unmatched=3)
