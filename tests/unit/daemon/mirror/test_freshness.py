"""The age of a copy on disk is right though the clock was set; where nothing else is known, the clock says it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tfgateway import machine
from tfgateway.instant import NANOSECONDS, Instant
from tfgateway.mirror.disk import freshness

HOUR = 3600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "dns.snapshot"
    file.write_bytes(b"")
    return file


def set_clock(monkeypatch: pytest.MonkeyPatch, ahead: float, *, boot: str = "") -> None:
    real = machine.now
    monkeypatch.setattr(
        machine,
        "now",
        lambda: Instant(real().unix_ns + round(ahead * NANOSECONDS), boot or real().boot, real().uptime),
    )


@pytest.mark.parametrize("ahead", [0, 2 * HOUR, -2 * HOUR, 365 * 24 * HOUR])
def test_a_clock_that_is_set_makes_it_no_older(path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    freshness.confirm(path, 100)
    set_clock(monkeypatch, ahead)
    assert 100 <= freshness.age(path) < 200
    freshness.confirm(path, 5)
    assert 5 <= freshness.age(path) < 100


def test_of_another_boot_the_clock_says_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freshness.confirm(path, 100)
    set_clock(monkeypatch, 2 * HOUR, boot="the next one")
    assert 2 * HOUR + 100 <= freshness.age(path) < 2 * HOUR + 200
    set_clock(monkeypatch, -8 * HOUR, boot="the next one")
    assert freshness.age(path) == 0


def test_without_the_attribute_or_with_garbage_the_clock_says_it(path: Path) -> None:
    for spoil in (
        lambda: os.removexattr(path, "user.tfgateway.known"),
        lambda: os.setxattr(path, "user.tfgateway.known", b"{"),
    ):
        freshness.confirm(path, 1)
        spoil()
        os.utime(path, (time.time() - 1000,) * 2)
        assert 1000 <= freshness.age(path) < 1100


def test_whoever_touched_it_since_knows_better(path: Path) -> None:
    freshness.confirm(path, 1)
    os.utime(path, (time.time() - 1000,) * 2)
    assert 1000 <= freshness.age(path) < 1100


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        freshness.age(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        freshness.confirm(tmp_path / "none", 1)
