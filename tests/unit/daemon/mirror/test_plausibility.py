"""States and observations: what a plane follows, and what it holds its copy against."""

from __future__ import annotations

import math
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tfgateway.mirror.plausibility import Plausibility
from tfgateway.redis_schema.marker import ANY, NONE, Marker, Mismatch, mismatch

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
US, THEM = "us", "them"
SEEN: Final = Marker(US, A, 100, 7)
FOLLOW, HOLD = True, False

OBSERVATIONS: Final = {
    "absent": Mismatch.ABSENT,
    "unreadable": Mismatch.UNREADABLE,
    "the same": SEEN,
    "later": Marker(US, A, 101, 7),
    "retired": Marker(US, A, 101, 7, retired=True),
    "older": Marker(US, A, 99, 7),
    "older, retired": Marker(US, A, 99, 7, retired=True),
    "replaced, filling": Marker(US, B, 1, 0),
    "replaced, filled": Marker(US, B, 9, 3),
    "next, filling": Marker(US, B, 1, 0, previous=A),
    "next, filled": Marker(US, B, 2, 1, previous=A),
    "foreign": Marker(THEM, C, 500, 50),
    "accepted": Marker(US, B, 1, 1, previous=ANY),
    "accepted, older": Marker(US, A, 99, 7, previous=ANY),
}
NOTHING: Final = {
    # what is seen afterwards
    "absent": None,
    "unreadable": None,
    "the same": SEEN,
    "later": OBSERVATIONS["later"],
    "retired": None,
    "older": OBSERVATIONS["older"],
    "older, retired": None,
    "replaced, filling": None,
    "replaced, filled": OBSERVATIONS["replaced, filled"],
    "next, filling": None,
    "next, filled": OBSERVATIONS["next, filled"],
    "foreign": OBSERVATIONS["foreign"],
    "accepted": OBSERVATIONS["accepted"],
    "accepted, older": OBSERVATIONS["accepted, older"],
}
FOLLOWED: Final = {
    "absent": HOLD,
    "unreadable": HOLD,
    "the same": FOLLOW,
    "later": FOLLOW,
    "retired": FOLLOW,
    "older": HOLD,
    "older, retired": HOLD,
    "replaced, filling": HOLD,
    "replaced, filled": HOLD,
    "next, filling": HOLD,
    "next, filled": FOLLOW,
    "foreign": HOLD,
    "accepted": FOLLOW,
    "accepted, older": FOLLOW,
}


def following(hold_for: float = math.inf) -> Plausibility:
    plausibility = Plausibility(hold_for)
    plausibility.seen = SEEN
    return plausibility


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_nothing_seen_is_followed_as_old_data_always_were(name: str) -> None:
    plausibility = Plausibility(math.inf)
    assert plausibility.observe(OBSERVATIONS[name], 0.0)
    assert plausibility.seen == NOTHING[name]


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_seen(name: str) -> None:
    plausibility = following()
    assert plausibility.observe(OBSERVATIONS[name], 0.0) is FOLLOWED[name]
    assert (plausibility.hold is None) is FOLLOWED[name]
    assert plausibility.seen == (NOTHING[name] if FOLLOWED[name] else SEEN)


@pytest.mark.parametrize("first", [name for name, follow in FOLLOWED.items() if not follow])
@pytest.mark.parametrize("then", OBSERVATIONS)
def test_held(first: str, then: str) -> None:
    """One look more changes nothing but for what is plausible after what was seen, and was not seen older."""
    plausibility = following()
    assert not plausibility.observe(OBSERVATIONS[first], 0.0)
    # A full pass ended: the data set that was being filled has one more than when it was looked at first.
    passed = (first, then) in {("next, filling", "next, filled"), ("replaced, filling", "next, filled")}
    passed |= (first, then) in {("replaced, filling", "replaced, filled"), ("next, filling", "replaced, filled")}
    rewound = first in ("older", "older, retired") and then in ("the same", "later", "retired")
    assert plausibility.observe(OBSERVATIONS[then], 1.0) is ((FOLLOWED[then] or passed) and not rewound)


@pytest.mark.parametrize("first", ["absent", "unreadable", "older", "replaced, filling", "replaced, filled"])
def test_a_full_pass_during_the_hold_ends_it(first: str) -> None:
    plausibility = following()
    assert not plausibility.observe(OBSERVATIONS[first], 0.0)
    found = OBSERVATIONS[first]
    marker = found if isinstance(found, Marker) else Marker(US, B, 1, 0)
    assert not plausibility.observe(marker, 1.0)
    assert not plausibility.observe(marker._replace(counter=marker.counter + 5), 2.0), "rows are written"
    later = marker._replace(counter=marker.counter + 6, passes=marker.passes + 1)
    assert plausibility.observe(later, 3.0)
    assert plausibility.seen == later
    assert plausibility.hold is None


def test_a_restored_data_set_brings_its_own_passes_which_prove_nothing() -> None:
    plausibility = following()
    assert not plausibility.observe(Mismatch.ABSENT, 0.0)
    assert not plausibility.observe(Marker(US, B, 900, 90), 1.0)
    assert not plausibility.observe(Marker(US, C, 990, 99), 2.0)
    assert not plausibility.observe(Marker(US, B, 800, 80), 3.0)
    assert not plausibility.observe(Marker(US, B, 800, 81), 4.0), "a pass raises the counter as well"
    assert plausibility.observe(Marker(US, B, 801, 82), 5.0)


def test_rows_that_are_written_to_older_data_make_them_no_newer() -> None:
    plausibility = following()
    assert not plausibility.observe(Marker(US, A, 99, 7), 0.0)
    assert not plausibility.observe(Marker(US, A, 101, 7), 1.0)
    plausibility.hold = None  # a plane that was restarted meanwhile
    assert not plausibility.observe(Marker(US, A, 102, 7, "1" * 16, base=99), 2.0)


def test_what_is_back_is_followed_at_once() -> None:
    plausibility = following()
    assert not plausibility.observe(Mismatch.ABSENT, 0.0)
    assert not plausibility.observe(Marker(US, B, 1, 0), 1.0)
    assert plausibility.observe(Marker(US, A, 101, 7), 2.0)


def test_another_gateway_that_works_on_its_own_data_is_never_followed() -> None:
    plausibility = following()
    for number in range(50):
        assert not plausibility.observe(Marker(THEM, C, 500 + 10 * number, 50 + number), float(number))
    assert plausibility.hold is not None
    assert plausibility.hold.why is Mismatch.FOREIGN
    assert plausibility.observe(Marker(US, B, 3, 1, previous=A), 60.0)


def test_how_long_and_whether_is_a_setting() -> None:
    assert following(0).observe(Mismatch.ABSENT, 0.0)
    plausibility = following(10)
    assert not plausibility.observe(Mismatch.ABSENT, 100.0)
    assert not plausibility.observe(Mismatch.ABSENT, 109.9)
    assert plausibility.observe(Mismatch.ABSENT, 110.0)
    assert plausibility.seen is None
    assert plausibility.observe(Mismatch.ABSENT, 111.0)


def test_what_a_script_says_counts_only_for_the_data_set_that_is_followed() -> None:
    plausibility = following()
    assert plausibility.confirm(Marker(US, A, 105, 7))
    assert plausibility.seen == Marker(US, A, 105, 7)
    assert plausibility.confirm(Marker(US, A, 103, 7)), "it was overtaken by a look at the marker"
    assert plausibility.seen == Marker(US, A, 105, 7)
    assert not plausibility.confirm(Marker(US, B, 500, 9))
    assert not plausibility.confirm(Marker(US, A, 200, 7, "1" * 16, base=50)), "of a process that began with older data"
    assert plausibility.seen == Marker(US, A, 105, 7)
    assert not plausibility.confirm(None)
    assert plausibility.hold is None, "another database of the same redis is nothing to do with us"
    assert not plausibility.observe(Marker(US, A, 104, 7), 0.0)
    assert not plausibility.confirm(Marker(US, A, 106, 7))
    assert Plausibility(math.inf).confirm(None)


class Disasters(RuleBasedStateMachine):
    """Redis and a reconciler (``DataSet``'s rules, on plain values), with losses and restarts at any moment.

    Redis holds a marker and names. The plane must never follow it while a name is missing that it followed before, or
    that was there when a full pass ended.
    """

    @initialize()
    def begin(self) -> None:
        self.numbers = iter(range(1, 10**9))
        self.names: frozenset[int] = frozenset()
        self.held: frozenset[int] = frozenset()
        self.plane = Plausibility(math.inf)
        self.clock = 0.0
        self.redis: Marker | None = None
        self.saved: list[tuple[Marker | None, frozenset[int]]] = [(None, self.names)]
        self.restart_reconciler()
        self.begin_pass()
        self.end_pass()
        self.look()

    def token(self) -> str:
        return f"{next(self.numbers):032x}"

    @rule()
    def save(self) -> None:
        self.saved.append((self.redis, self.held))

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        self.redis, self.held = data.draw(st.sampled_from(self.saved))

    @rule()
    def foreign(self) -> None:
        self.redis, self.held = Marker(THEM, C, 1000 + next(self.numbers), 100 + next(self.numbers)), frozenset()

    @rule()
    def restart_reconciler(self) -> None:
        self.last: Marker | None = None
        self.writer = self.token()[16:]
        self.pass_runs = False

    @rule()
    def news(self) -> None:
        """Somebody reserves a name; it is written at once where nothing else is to be done first."""
        name = next(self.numbers)
        self.names |= {name}
        if self.last is not None and self.redis == self.last and not self.pass_runs:
            self.held |= {name}
            self.redis = self.last = self.last._replace(counter=self.last.counter + 1)

    @rule()
    def begin_pass(self) -> None:
        found = self.redis
        intact = found is not None and found.node_id == US and (self.last is None or mismatch(self.last, found) is None)
        if found is not None and intact:
            if found.writer != self.writer:
                found = found._replace(writer=self.writer, base=found.counter, counter=found.counter + 1)
            self.redis = self.last = found
        else:
            before = self.last or found
            previous = NONE if before is None else before.incarnation if before.passes else before.previous
            self.redis = self.last = Marker(US, self.token(), 1, 0, self.writer, 0, previous)
        self.pass_runs = True

    @rule()
    def end_pass(self) -> None:
        """Rows were planned from what the pass has begun with: they all go through only if that is still there."""
        if self.pass_runs and self.last is not None and self.redis == self.last:
            self.held = self.names
            self.redis = self.last = self.last._replace(counter=self.last.counter + 2, passes=self.last.passes + 1)
        self.pass_runs = False

    @rule()
    def repair(self) -> None:
        """A pass without the explorer: rows are written, and nothing is complete."""
        if self.pass_runs and self.last is not None and self.redis == self.last:
            self.redis = self.last = self.last._replace(counter=self.last.counter + 1)

    @rule()
    def look(self) -> None:
        self.clock += 1
        if self.plane.observe(self.redis or Mismatch.ABSENT, self.clock):
            assert self.followed <= self.held if hasattr(self, "followed") else True
            self.followed = self.held

    @rule()
    def restart_plane(self) -> None:
        """What was seen is on disk."""
        seen = self.plane.seen
        self.plane = Plausibility(math.inf)
        self.plane.seen = seen

    @invariant()
    def two_full_passes_bring_it_back(self) -> None:
        if not hasattr(self, "last") or self.redis is None or self.redis.node_id != US:
            return
        plane = Plausibility(math.inf)
        plane.seen, plane.hold = self.plane.seen, self.plane.hold
        found = self.redis
        for _ in range(2):
            found = found._replace(counter=found.counter + 1, passes=found.passes + 1)
            follows = plane.observe(found, self.clock)
        assert follows


TestDisasters = Disasters.TestCase


@given(st.lists(st.sampled_from(sorted(OBSERVATIONS)), max_size=30), st.sampled_from([0.0, 5.0, math.inf]))
def test_a_hold_is_told_exactly_while_redis_is_not_followed(names: list[str], hold_for: float) -> None:
    plausibility = following(hold_for)
    for number, name in enumerate(names):
        follows = plausibility.observe(OBSERVATIONS[name], float(number))
        assert follows is (plausibility.hold is None)
