"""The journal of updates: what was answered survives whatever happens to the file afterwards."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.wire import names
from tfgateway.dns.wire.names import Name
from tfgateway.errors import SchemaError
from tfgateway.reconciler.updates.journal import Entry, Journal
from tfgateway.redis_schema.resource_records import ResourceRecord

TEXT = ResourceRecord(16, 60, "0178")


def wire(label: str) -> Name:
    return names.fold(names.from_text(f"{label}.alice.example.".encode()))


def entry(*records: ResourceRecord) -> Entry:
    return Entry("7", "alice.example", records)


def opened(path: Path) -> Journal:
    journal = Journal(path)
    journal.load()
    return journal


CHANGES = st.lists(
    st.dictionaries(
        st.sampled_from("abcd").map(wire), st.sampled_from([entry(), entry(TEXT), entry(TEXT, TEXT)]), min_size=1
    ),
    max_size=8,
)


@given(CHANGES)
def test_it_says_the_same_after_any_restart(tmp_path_factory: pytest.TempPathFactory, changes: list) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    journal, expected = opened(path), {}
    assert journal.is_new
    for number, change in enumerate(changes):
        journal.append(change, now=number, mac=f"{number:02x}")
        expected |= change
        expected = {name: one for name, one in expected.items() if one.records}
        assert journal.entries == expected
        if number % 2:
            macs, journal = journal.macs, opened(path)
            assert (journal.entries, journal.macs, journal.is_new) == (expected, macs, False)
    assert opened(path).entries == expected


def test_a_line_that_was_not_finished(tmp_path: Path) -> None:
    """The node lost its power: that update was not answered."""
    path = tmp_path / "j"
    journal = opened(path)
    journal.append({wire("a"): entry(TEXT)}, now=1)
    whole = path.read_bytes()
    journal.append({wire("b"): entry(TEXT)}, now=2)
    longer = path.read_bytes()
    for end in range(len(whole), len(longer) - 1):
        path.write_bytes(longer[:end])
        again = opened(path)
        assert set(again.entries) == {wire("a")}
        again.append({wire("c"): entry(TEXT)}, now=3)
        assert set(opened(path).entries) == {wire("a"), wire("c")}


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (b"0178", b"0179", "line 2 is damaged"),
        (b"\n", b"", "line 2 is damaged"),
        (None, b'{"time":1,"names":{},"form":2}', "line 2 is of form 2"),
        (None, b'{"time":1,"names":{"..":{"user":"7","domain":"x"}}}', "a name is not valid"),
        (None, b'{"names":1}', "line 2 is of a form"),
    ],
)
def test_what_cannot_be_read_is_not_passed_over(
    tmp_path: Path, before: bytes | None, after: bytes, reason: str
) -> None:
    """Nor is the file changed: somebody may still mend it."""
    path = tmp_path / "j"
    journal = opened(path)
    for label in "abc":
        journal.append({wire(label): entry(TEXT)}, now=1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"%08x %b\n" % (zlib.crc32(after), after) if before is None else lines[1].replace(before, after)
    path.write_bytes(b"".join(lines))
    with pytest.raises(SchemaError, match=reason):
        opened(path)
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Nothing has changed, and the next one is written to a file that is whole."""
    path = tmp_path / "j"
    journal = opened(path)
    journal.append({wire("a"): entry(TEXT)}, now=1, mac="aa")
    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(5, "no")))
        else:
            patch.setattr(Path, "open", lambda *_a, **_k: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match=r"no|full"):
            journal.append({wire("b"): entry(TEXT)}, now=2, mac="bb")
        assert (set(journal.entries), set(journal.macs)) == ({wire("a")}, {"aa"})
    journal.append({wire("c"): entry(TEXT)}, now=3)
    assert set(opened(path).entries) == {wire("a"), wire("c")}


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfgateway.reconciler.updates.journal._SLACK", 2000)
    path = tmp_path / "j"
    journal = opened(path)
    for number in range(200):
        journal.append({wire("a"): entry(TEXT if number % 2 else ResourceRecord(16, 60, "0179"))}, now=number)
    assert path.stat().st_size < 3000
    assert opened(path).entries == {wire("a"): entry(TEXT)}


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    journal.append({wire("a"): entry(TEXT)}, now=1)
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_old_signatures_are_forgotten(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    journal.append({}, now=1, mac="aa")
    journal.append({}, now=1000, mac="bb")
    journal.forget_macs(500)
    assert set(journal.macs) == {"bb"}
