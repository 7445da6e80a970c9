"""Samples of the number of reservations: removals are counted against the last hour, at once or in slices (pure).

The number is noted every ten minutes, for an hour. What was made and removed again in between is no loss. A clock that
is set ends no hour; a reboot, after which it cannot be known, may make it longer.
"""

from __future__ import annotations

import msgspec

from tfgateway.instant import NANOSECONDS, Instant

WINDOW = 3600.0
"""Seconds for which a number counts."""
EVERY = 600.0
"""Seconds between two that are noted."""


class CountSample(msgspec.Struct, frozen=True, array_like=True):
    """The number of recorded reservations at a time."""

    taken: float
    """Unix seconds, by our clock."""
    recorded: int
    boot: str = ""
    uptime: float = 0.0
    """See ``Instant``; older releases have written neither."""

    def age(self, now: Instant) -> float:
        """Age in seconds."""
        return now.since(Instant(round(self.taken * NANOSECONDS), self.boot, self.uptime))


def decode_samples(raw: bytes | None) -> tuple[CountSample, ...]:
    """Decoded samples; empty: there are none, or they cannot be read."""
    try:
        return msgspec.json.decode(raw or b"[]", type=tuple[CountSample, ...])
    except msgspec.MsgspecError:
        return ()


def most(samples: tuple[CountSample, ...], now: Instant) -> int:
    """The highest number of the last hour."""
    return max((sample.recorded for sample in _late(samples, now)), default=0)


def noted(samples: tuple[CountSample, ...], now: Instant, recorded: int) -> tuple[CountSample, ...]:
    """The samples with another one, if one is due, without expired ones."""
    late = _late(samples, now)
    due = all(sample.age(now) >= EVERY for sample in late)
    return (*late, CountSample(now.unix, recorded, now.boot, now.uptime)) if due else late


def without(samples: tuple[CountSample, ...], count: int) -> tuple[CountSample, ...]:
    """The samples reduced by reservations that an operator ended, which is no loss."""
    return tuple(msgspec.structs.replace(one, recorded=max(0, one.recorded - count)) for one in samples)


def _late(samples: tuple[CountSample, ...], now: Instant) -> tuple[CountSample, ...]:
    """The samples of the last hour."""
    return tuple(sample for sample in samples if sample.age(now) <= WINDOW)
