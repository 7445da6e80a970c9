"""Receive windows over a line with a delay, in a clock of the test's own; and the budget that they share."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from tfgateway.tunnel.yamux.connection import DataReceived, Role, YamuxConnection
from tfgateway.tunnel.yamux.snapshot import StreamSnapshot
from tfgateway.tunnel.yamux.windows import INITIAL_WINDOW, PORTION, ReceiveWindow, RoundTrip, WindowBudget

MB = 1_000_000
STEP = 0.001


class Line:
    """A sender that always has something for each stream, a line, and a receiver that reads it all at once."""

    def __init__(self, delay: float, rate: int, streams: int = 1, budget: WindowBudget | None = None) -> None:
        """delay: seconds one way. rate: bytes a second of the line."""
        self.budget = budget or WindowBudget(32 * MB)
        self.sender = YamuxConnection(Role.SERVER, max_streams=1, budget=WindowBudget(0))
        self.receiver = YamuxConnection(Role.CLIENT, max_streams=streams, budget=self.budget)
        self.receiver.round_trip.add(2 * delay, 0)
        self.now = 0.0
        self.unread: set[int] = set()
        self.received: dict[int, int] = {}
        self._ticks = max(1, round(delay / STEP))
        self._rate = rate
        self._there: deque[bytes] = deque([b""] * self._ticks)
        self._back: deque[bytes] = deque([b""] * self._ticks)
        self.streams = [self.sender.open() for _ in range(streams)]

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self._step()

    def _step(self) -> None:
        self.now += STEP
        room = int(self._rate * STEP)
        for stream in self.streams:
            share = min(self.sender.window(stream), room // len(self.streams))
            self.sender.send(stream, bytes(share))
        self._there.append(_taken(self.sender))
        self._back.append(_taken(self.receiver))
        for event in self.receiver.receive(memoryview(self._there.popleft())):
            if isinstance(event, DataReceived) and event.stream not in self.unread:
                self.received[event.stream] = self.received.get(event.stream, 0) + len(event.data)
                if self.receiver.consume(event.stream, len(event.data)):
                    self.receiver.grant(event.stream, self.now)
        for _ in self.sender.receive(memoryview(self._back.popleft())):
            pass


def _taken(side: YamuxConnection) -> bytes:
    data = b"".join(side.outgoing)
    side.outgoing.clear()
    return data


def test_a_long_line_is_filled() -> None:
    line = Line(0.050, rate=40 * MB)
    line.run(1)
    line.received.clear()
    line.run(1)
    assert line.received[2] >= 0.97 * 40 * MB
    assert line.budget.used <= 1.7 * 40 * MB * 0.1  # no more than that waits somewhere on the way


def test_without_a_round_trip_a_window_stays_as_it_was() -> None:
    line = Line(0.050, rate=40 * MB)
    line.receiver.round_trip = RoundTrip()
    line.run(2)
    assert line.received[2] <= 21 * INITIAL_WINDOW
    assert line.budget.used == 0


def test_a_short_line_needs_no_more_than_the_initial_window() -> None:
    line = Line(STEP, rate=20 * MB)
    line.run(1)
    assert line.received[2] >= 0.97 * 20 * MB
    assert line.budget.used == 0
    # However much it brings: it would only queue before what others send.
    line.receiver.round_trip = RoundTrip(0.0015)
    line._rate = 2000 * MB
    line.run(0.2)
    assert line.budget.used == 0


def test_streams_share_a_long_line_within_the_budget() -> None:
    line = Line(0.050, rate=64 * MB, streams=16)
    line.run(1.5)
    line.received.clear()
    line.run(1)
    assert sum(line.received.values()) >= 0.95 * 64 * MB
    assert max(line.received.values()) < 1.5 * min(line.received.values())
    assert line.budget.used <= 32 * MB


def test_streams_that_nobody_reads_leave_enough_for_the_others() -> None:
    line = Line(0.050, rate=100 * MB, streams=8)
    line.run(2)
    line.unread = set(line.streams[1:])
    line.run(1)
    line.received.clear()
    line.run(2)
    assert line.received.keys() == {2}
    assert line.received[2] >= 0.97 * 2 * 12.5 * MB  # its part of the line
    assert line.budget.used <= 32 * MB


def test_windows_shrink_when_memory_is_scarce_and_their_streams_slow_down() -> None:
    parent = WindowBudget(20 * MB)
    budget = WindowBudget(20 * MB, parent)
    line = Line(0.050, rate=80 * MB, budget=budget)
    line.run(2)
    assert budget.used > 4 * MB
    others = WindowBudget(20 * MB, parent)
    others.charge(1, 11 * MB)
    line._rate = 4 * MB
    line.run(5)
    assert budget.used < 0.7 * MB
    assert parent.used == others.used + budget.used
    line.received.clear()
    line.run(1)
    assert line.received[2] >= 0.97 * 4 * MB


def test_a_window_shrinks_by_grants_that_are_held_back() -> None:
    window = ReceiveWindow(left=0, taken=0, size=8 * PORTION)
    window.tune(0.0, 0.1, largest=INITIAL_WINDOW, scarce=False)
    assert window.size == 8 * PORTION  # all of it is kept here
    window.consumed(3 * PORTION)
    window.tune(0.05, 0.1, largest=INITIAL_WINDOW, scarce=False)
    assert (window.size, window.grant(), window.left) == (5 * PORTION, 0, 0)
    window.consumed(4 * PORTION)
    window.tune(0.06, 0.1, largest=INITIAL_WINDOW, scarce=False)
    assert (window.size, window.grant(), window.left) == (2 * PORTION, PORTION, PORTION)


def test_what_a_stream_had_is_free_when_nothing_of_it_is_kept() -> None:
    parent = WindowBudget(30 * MB)
    one, other = WindowBudget(30 * MB, parent), WindowBudget(30 * MB, parent)
    assert one.share(2) == 10 * MB
    one.charge(2, 10 * MB)
    one.charge(4, 6 * MB)
    assert (one.share(2), other.share(2)) == (8 * MB, (30 - 16) * MB // 3)
    one.charge(2, 0)
    assert (one.used, parent.used, one.scarce) == (6 * MB, 6 * MB, False)
    other.charge(2, 12 * MB)
    assert one.scarce  # since all of the process together are
    one.close()
    assert (one.used, parent.used) == (0, 12 * MB)


def test_the_round_trip_is_the_shortest_of_the_last_minutes() -> None:
    one = RoundTrip()
    assert one.seconds == 0
    for now, sample in ((10, 0.3), (20, 0.1), (30, 0.2)):
        one.add(sample, now)
    assert one.seconds == 0.1
    for now in range(40, 300, 10):
        one.add(0.25, now)  # much is received, or the way has become longer
        assert one.seconds == 0.1
    for now in range(300, 500, 10):
        one.add(0.25, now)
    assert one.seconds == 0.25


def test_a_window_becomes_smaller_step_by_step_when_less_comes() -> None:
    line = Line(0.050, rate=80 * MB)
    line.run(2)
    grown = line.budget.used
    line._rate = 4 * MB
    line.run(4)
    assert 0.5 * grown < line.budget.used < grown
    line.run(30)
    assert line.budget.used < 0.7 * MB
    line.received.clear()
    line.run(1)
    assert line.received[2] >= 0.97 * 4 * MB


def test_a_stream_of_a_release_without_tuning_goes_on() -> None:
    state = StreamSnapshot(
        send_left=1, receive_left=0, taken=1, acknowledged=True, ended_by_us=False, ended_by_peer=False
    )
    assert state.window == INITIAL_WINDOW


def test_a_larger_window_goes_on_elsewhere() -> None:
    line = Line(0.050, rate=40 * MB)
    line.run(1)
    used = line.budget.used
    again = WindowBudget(32 * MB)
    line.receiver = YamuxConnection.thaw(Role.CLIENT, line.receiver.freeze(), max_streams=1, budget=again)
    assert again.used == used > 0
    assert line.receiver.round_trip.seconds == 0.1
    line.received.clear()
    line.run(1)
    assert line.received[2] >= 0.97 * 40 * MB


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["receive", "consume"]),
            st.integers(1, 4 * PORTION),
            st.floats(0, 0.2),
            st.integers(0, 4 * MB),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_a_window_is_what_was_granted_and_what_is_kept(steps: list[tuple[str, int, float, int, bool]]) -> None:
    """Whatever happens: no byte is granted twice, none is lost, and it never takes back what the peer may send."""
    window, kept, now = ReceiveWindow(), 0, 0.0
    for step, count, later, extra, scarce in steps:
        now += later
        if step == "receive":
            count = min(count, window.left)
            window.announced(count)
            kept += count
            continue
        count = min(count, kept)
        kept -= count
        left = window.left
        if window.consumed(count):
            window.tune(now, 0.05, largest=INITIAL_WINDOW + extra, scarce=scarce)
            granted = window.grant()
            assert window.left == left + granted
            assert not granted or granted >= PORTION // 4
        assert window.size == window.left + kept + window.taken
        assert window.size >= INITIAL_WINDOW
        assert window.taken >= 0
