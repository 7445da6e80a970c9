from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.zones.serial import SerialBook, is_newer, next_serial
from tfgateway.redis_schema.serials import Issued

NOW = 1_790_000_000
serials = st.integers(0, 2**32 - 1)


@given(serials, serials)
def test_next_serial_is_always_newer_in_the_arithmetic_of_rfc1982(previous: int, now: int) -> None:
    serial = next_serial(previous, now)
    assert 0 <= serial < 2**32
    assert is_newer(serial, previous)
    assert not is_newer(previous, serial)


@pytest.mark.parametrize(
    ("serial", "other", "newer"),
    [(1, 0, True), (0, 1, False), (5, 5, False), (0, 2**32 - 1, True), (2**31 - 1, 0, True), (2**31, 0, False)],
)
def test_serial_arithmetic(serial: int, other: int, *, newer: bool) -> None:
    assert is_newer(serial, other) is newer


@pytest.mark.parametrize(
    ("previous", "now", "expected"), [(NOW, NOW + 5, NOW + 5), (NOW, NOW, NOW + 1), (NOW + 9, NOW, NOW + 10)]
)
def test_serial_is_the_time_of_the_change_unless_that_would_not_be_newer(previous, now, expected) -> None:
    assert next_serial(previous, now) == expected


def test_serial_changes_only_with_the_data() -> None:
    book = SerialBook(lambda: None)
    assert book.issue(b"z.", 7, NOW) == NOW
    assert book.issue(b"z.", 7, NOW + 60) == NOW
    assert book.issue(b"z.", 8, NOW + 60) == NOW + 60
    assert book.issue(b"z.", 7, NOW + 60) == NOW + 61  # the old data again: still upwards
    assert book.issue(b"y.", 7, NOW + 99) == NOW + 99


def test_same_data_after_a_restart_has_the_same_serial() -> None:
    book = SerialBook(lambda: None)
    book.observe({b"z.": Issued(NOW, 7), b"y.": Issued(NOW, 7)})
    assert book.issue(b"z.", 7, NOW + 60) == NOW
    assert book.issue(b"y.", 8, NOW - 60) == NOW + 1  # the clock was set back


def test_what_changes_has_to_be_saved_once() -> None:
    calls: list[None] = []
    book = SerialBook(lambda: calls.append(None))
    book.observe({b"z.": Issued(NOW, 7), b"y.": Issued(NOW, 7)})
    assert book.issue(b"z.", 7, NOW) == NOW
    assert (book.take_unsaved(), calls) == ({}, [])
    book.issue(b"z.", 8, NOW)
    book.forget(b"y.")
    book.forget(b"never known.")
    assert len(calls) == 2
    unsaved = book.take_unsaved()
    assert unsaved == {b"z.": Issued(NOW + 1, 8), b"y.": None}
    assert book.take_unsaved() == {}
    book.give_back(unsaved)
    book.issue(b"z.", 9, NOW)
    assert book.take_unsaved() == {b"z.": Issued(NOW + 2, 9), b"y.": None}


def test_serials_of_zones_that_went_away_are_forgotten() -> None:
    book = SerialBook(lambda: None)
    book.observe({b"z.": Issued(NOW, 7), b"y.": Issued(NOW, 7)})
    book.forget_others({b"z."})
    assert book.take_unsaved() == {b"y.": None}


def test_the_newest_serial_that_any_worker_gave_stands() -> None:
    book = SerialBook(lambda: None)
    book.issue(b"z.", 7, NOW)
    book.take_unsaved()
    book.observe({b"z.": Issued(NOW + 2, 7)})
    assert book.issue(b"z.", 7, NOW + 5) == NOW + 2
    book.observe({b"z.": Issued(NOW + 9, 8)})  # it is ahead of us
    assert book.issue(b"z.", 8, NOW + 20) == NOW + 9
    assert book.take_unsaved() == {}
    book.observe({b"z.": Issued(NOW, 7)})  # redis was set back
    assert book.take_unsaved() == {b"z.": Issued(NOW + 9, 8)}
    book.save_all()
    assert book.take_unsaved() == {b"z.": Issued(NOW + 9, 8)}
