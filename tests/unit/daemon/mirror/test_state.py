from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tfgateway.mirror.state import Known, PendingKeys, Value, fingerprint_parts

_MASK = 2**64 - 1


def fingerprint(value: Value) -> int:
    return sum(fingerprint_parts(value)) & _MASK


hashes = st.dictionaries(st.binary(max_size=4), st.binary(max_size=4), min_size=1, max_size=6)


@given(hashes, st.randoms(use_true_random=False))
def test_fingerprint_does_not_depend_on_the_order_of_fields(value: dict[bytes, bytes], chance) -> None:
    shuffled = list(value.items())
    chance.shuffle(shuffled)
    assert fingerprint(dict(shuffled)) == fingerprint(value)


@given(hashes, hashes)
def test_fingerprint_tells_different_hashes_apart(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


@given(st.binary(), st.binary())
def test_fingerprint_tells_different_strings_apart(one: bytes, other: bytes) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_values_that_changed_places_are_a_change() -> None:
    assert fingerprint({b"a": b"1", b"b": b"2"}) != fingerprint({b"a": b"2", b"b": b"1"})


def test_a_big_hash_has_parts_and_still_no_order() -> None:
    fields = [(b"%d" % number, b"x" * (number % 7)) for number in range(12_000)]
    assert len(list(fingerprint_parts(dict(fields)))) > 1
    assert fingerprint(dict(fields)) == fingerprint(dict(reversed(fields)))
    assert fingerprint(dict(fields)) != fingerprint(dict(fields[:-1]))


def test_known_reports_only_differences() -> None:
    known = Known()
    assert known.update(b"a.", 1)
    assert not known.update(b"a.", 1)
    assert not known.update(b"a.", 1 - 2**64)  # the same 64 bits
    assert known.update(b"a.", 2)
    assert list(known.keys()) == [b"a."]
    assert known.update(b"a.", None)
    assert not known.update(b"a.", None)
    assert len(known) == 0


def test_a_key_that_the_sink_failed_on_is_told_again() -> None:
    known = Known()
    known.update(b"a.", 1)
    known.distrust(b"a.")
    assert known.update(b"a.", 1)
    assert not known.update(b"a.", 1)


def test_a_removal_that_the_sink_failed_on_is_told_again() -> None:
    known = Known()
    known.update(b"a.", 1)
    assert known.update(b"a.", None)
    known.distrust(b"a.")
    assert known.update(b"a.", None)


def test_pending_holds_each_wanted_key_once_in_the_order_of_its_news() -> None:
    pending = PendingKeys(lambda key: key.endswith(b"."))
    pending.announce([b"b.", b"zone", b"a.", b"b."])
    pending.announce([b"a."])
    assert len(pending) == 2
    assert pending.take() == [b"b.", b"a."]
    assert pending.take() == []


def test_what_changes_while_it_is_read_is_pending_again() -> None:
    pending = PendingKeys(lambda _key: True)
    pending.announce([b"a."])
    pending.take()
    pending.announce([b"a."])
    assert pending.take() == [b"a."]


def test_a_snapshot_is_due_at_first_and_after_an_unnamed_change() -> None:
    pending = PendingKeys(lambda _key: True)
    assert pending.everything
    pending.everything = False
    pending.announce([])
    assert not pending.everything
    pending.announce(None)
    assert pending.everything
