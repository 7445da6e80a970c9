"""Ages that nobody changes who sets the clock, and what is known after a reboot."""

from __future__ import annotations

import time

import pytest
from tfgateway import machine
from tfgateway.instant import NANOSECONDS, Instant

HOUR = 3600.0
YEAR = 365 * 24 * HOUR


def at(uptime: float, *, clock: float = 0.0, boot: str = "b") -> Instant:
    return Instant(round((1.7e9 + clock) * NANOSECONDS), boot, uptime)


@pytest.mark.parametrize("clock", [0.0, 2 * HOUR, -2 * HOUR, YEAR, -YEAR])
def test_within_a_boot_the_clock_does_not_count(clock: float) -> None:
    assert at(150, clock=clock).since(at(100)) == 50


def test_what_is_still_to_come_is_no_time_ago() -> None:
    assert at(100).since(at(150)) == 0


@pytest.mark.parametrize("boot", ["the one before", ""])
@pytest.mark.parametrize(
    ("uptime", "clock", "age"),
    [(1000.0, 300.0, 300.0), (1000.0, YEAR, 1000.0), (1000.0, -YEAR, 1000.0), (1000.0, -300.0, 300.0)],
)
def test_of_another_boot_no_more_counts_than_this_one_has_lasted(
    boot: str, uptime: float, clock: float, age: float
) -> None:
    assert at(uptime, clock=clock).since(at(7, boot=boot)) == age


def test_where_the_kernel_does_not_say_the_clock_counts() -> None:
    assert at(1000, clock=300, boot="").since(at(900, boot="")) == 300


def test_now_is_now() -> None:
    first = machine.now()
    assert abs(first.unix - time.time()) < HOUR
    assert first.boot == machine.boot_id() != ""
    assert first.uptime <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert machine.now().since(first) < HOUR
