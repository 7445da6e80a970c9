"""How many reservations there were of late (pure): what may be removed is counted against that, in one go or in slices.

The number is noted every ten minutes, for an hour. What was made and removed again in between is no loss. A clock that
is set ends no hour; a reboot, after which nobody can know, may make it longer.
"""

from __future__ import annotations

import msgspec

from tfgateway.instant import NANOSECONDS, Instant

WINDOW = 3600.0
"""Seconds for which a number counts."""
EVERY = 600.0
"""Seconds between two that are noted."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """So many reservations were recorded then."""

    taken: float
    """Unix seconds, by our clock."""
    recorded: int
    boot: str = ""
    uptime: float = 0.0
    """See ``Instant``; older releases have written neither."""

    def age(self, now: Instant) -> float:
        """Seconds."""
        return now.since(Instant(round(self.taken * NANOSECONDS), self.boot, self.uptime))


def decode_samples(raw: bytes | None) -> tuple[Sample, ...]:
    """Empty: nothing was noted yet, or nobody can read it."""
    try:
        return msgspec.json.decode(raw or b"[]", type=tuple[Sample, ...])
    except msgspec.MsgspecError:
        return ()


def most(samples: tuple[Sample, ...], now: Instant) -> int:
    """The most that were recorded of late."""
    return max((sample.recorded for sample in _late(samples, now)), default=0)


def noted(samples: tuple[Sample, ...], now: Instant, recorded: int) -> tuple[Sample, ...]:
    """With one more, if one is due; what does not count any more is dropped."""
    late = _late(samples, now)
    due = all(sample.age(now) >= EVERY for sample in late)
    return (*late, Sample(now.unix, recorded, now.boot, now.uptime)) if due else late


def without(samples: tuple[Sample, ...], count: int) -> tuple[Sample, ...]:
    """As if so many reservations had not been there: an operator ended them, which is no loss."""
    return tuple(msgspec.structs.replace(one, recorded=max(0, one.recorded - count)) for one in samples)


def _late(samples: tuple[Sample, ...], now: Instant) -> tuple[Sample, ...]:
    """Those of the last hour."""
    return tuple(sample for sample in samples if sample.age(now) <= WINDOW)
