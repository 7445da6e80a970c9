from __future__ import annotations

from tfgateway.reconciler.planning.inputs.rows import Actual, Row, Rows


def test_a_transaction_says_what_it_read_and_what_it_writes() -> None:
    rows = Rows(Actual({"h": {"f": b"1"}}, {"s": b"2"}))
    assert rows.get("h", "f") == b"1"
    rows.put("s", None, b"3")
    rows.put("h", "new", b"4")
    assert rows.get("h", "new") == b"4"
    transaction = rows.take()
    assert transaction.expected == (Row("h", "f", b"1"), Row("s", None, b"2"), Row("h", "new", None))
    assert transaction.writes == (Row("s", None, b"3"), Row("h", "new", b"4"))


def test_what_is_there_already_is_not_written_and_what_is_undone_is_forgotten() -> None:
    rows = Rows(Actual({"h": {"f": b"1"}}))
    rows.put("h", "f", b"1")
    rows.put("h", "g", b"2")
    rows.put("h", "g", None)
    assert rows.peek().writes == ()
    rows.put("h", "g", b"3")
    rows.undo()
    assert rows.take().writes == ()
    assert rows.get("h", "g") is None


def test_later_transactions_are_planned_on_top_of_earlier_ones() -> None:
    rows = Rows(Actual({"h": {"f": b"1", "g": b"2"}}))
    rows.put("h", "f", None)
    rows.take()
    assert dict(rows.fields("h")) == {"g": b"2"}
    rows.put("h", "i", b"5")
    assert dict(rows.fields("h")) == {"g": b"2", "i": b"5"}
    assert rows.take().expected == (Row("h", "i", None),)
    rows.forget("h", "g")
    assert rows.take().writes == (Row("h", "g", None),)
    assert dict(rows.fields("h")) == {"i": b"5"}
