"""The difference between our clock and the explorer's, in seconds and in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_NOTABLE = 30.0
"""Seconds: below, it may as well be the network."""
_HALF_A_SECOND = 0.5
_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def ahead(now: float, headers: Mapping[str, str]) -> float | None:
    """Seconds by which ``now`` (Unix seconds) is ahead of an answer's ``Date``; None: it has no date of its own.

    ``headers`` ignores the case of names.
    """
    if "Age" in headers:  # from a cache: as old as it says
        return None
    try:
        date = parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None
    # A date is cut to whole seconds.
    return now - date - _HALF_A_SECOND


def in_words(seconds: float | None) -> str:
    """``"this node's clock is 7 minutes ahead of the explorer's"``; empty when they agree or nothing is known."""
    if seconds is None or abs(seconds) < _NOTABLE:
        return ""
    # Two of a unit at least: 90 minutes, not one hour.
    size, unit = next(((size, unit) for size, unit in _UNITS if abs(seconds) >= 2 * size), _UNITS[-1])
    direction = "ahead of" if seconds > 0 else "behind"
    return f"this node's clock is {round(abs(seconds) / size)} {unit} {direction} the explorer's"
