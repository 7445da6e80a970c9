"""The delay until the next poll. Pure: for explorers that support long polling (``wait=``) and those that do not."""

from __future__ import annotations

_SHORTEST_ROUND = 0.1
"""Seconds from one poll to the next however much is going on: changes that come closer together share an answer."""
_JITTER = 0.1


def delay(took: float, *, found_new: bool, interval: float, chance: float) -> float:
    """Seconds to wait before the next poll.

    took: seconds that the last poll was under way. found_new: it said something that was not known; what an explorer
    repeats until it is answered is not new. interval: seconds between polls that find nothing new. chance: a random
    number from 0 to 1, which keeps the gateways of a fleet from polling in step.

    An explorer that held the poll back for at least ``interval`` is asked again at once; one that answered at once
    with nothing new, because it ignores ``wait`` or is about to stop, when the interval is over. Ask with a ``wait`` of
    no less than the interval. A poll that failed is not for here: back off.
    """
    due = _SHORTEST_ROUND if found_new else interval * (1 - _JITTER * chance)
    return max(0.0, due - took)
