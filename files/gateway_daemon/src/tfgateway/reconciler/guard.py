"""How many reservations there were of late (pure): what may be removed is counted against that, in one go or in slices.

The number is noted every ten minutes, for an hour. What was made and removed again in between is no loss.
"""

from __future__ import annotations

import msgspec

WINDOW = 3600.0
"""Seconds for which a number counts."""
EVERY = 600.0
"""Seconds between two that are noted."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """So many reservations were recorded then."""

    taken: float
    """Unix seconds, by our clock."""
    recorded: int


def decode_samples(raw: bytes | None) -> tuple[Sample, ...]:
    """Empty: nothing was noted yet, or nobody can read it."""
    try:
        return msgspec.json.decode(raw or b"[]", type=tuple[Sample, ...])
    except msgspec.MsgspecError:
        return ()


def most(samples: tuple[Sample, ...], now: float) -> int:
    """The most that were recorded of late. now: Unix seconds."""
    return max((sample.recorded for sample in _late(samples, now)), default=0)


def noted(samples: tuple[Sample, ...], now: float, recorded: int) -> tuple[Sample, ...]:
    """With one more, if one is due; what does not count any more is dropped."""
    late = _late(samples, now)
    due = all(abs(now - sample.taken) >= EVERY for sample in late)
    return (*late, Sample(now, recorded)) if due else late


def without(samples: tuple[Sample, ...], count: int) -> tuple[Sample, ...]:
    """As if so many reservations had not been there: an operator ended them, which is no loss."""
    return tuple(Sample(sample.taken, max(0, sample.recorded - count)) for sample in samples)


def _late(samples: tuple[Sample, ...], now: float) -> tuple[Sample, ...]:
    """Those of the last hour; of the next one too, since a clock may have been set back."""
    return tuple(sample for sample in samples if abs(now - sample.taken) <= WINDOW)
