"""Decides by the marker whether redis holds a plausible successor of the known data. Pure: the clock is passed in.

==============  ==========================================  ==========================================================
state           what redis shows                            what follows
==============  ==========================================  ==========================================================
nothing seen    no marker, or of a data set being filled    followed, as the data of old programs always were
nothing seen    a filled data set                           followed, and *seen* from now on
seen            the same, later; or what takes its place    followed
seen            the same, retired                           followed; nothing is seen any more: old programs write
seen            anything else (``redis_schema.marker.mismatch``)  *held*: what is known stays, redis is not followed
held            what is plausible after what was seen (1)   followed
held            a full pass that ended during the hold      followed: the reconciler has written everything
held            anything else                               held, for as long as the settings say
==============  ==========================================  ==========================================================

(1) But not if it was older when it was looked at first: rows that were written since make it no more complete.

A full pass counts as ended during the hold when both sides of it were observed: one data set of the node that was
seen, first with fewer passes than later. A number alone proves nothing, since a restored data set brings its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfgateway.redis_schema.marker import ANY, Marker, Mismatch, mismatch


@dataclass(frozen=True, slots=True)
class Hold:
    """Why, and since when, redis is not followed."""

    why: Mismatch
    since: float
    """When it began, by the caller's clock."""
    baseline: Marker | None
    """The data set that redis shows, as it was when it was first seen during the hold; None: it shows none."""


class Plausibility:
    """The state of one plane's decision; ``seen`` survives restarts in the copy on disk."""

    def __init__(self, hold_for: float) -> None:
        """hold_for: seconds for which implausible data are not followed; 0: they always are."""
        self.seen: Marker | None = None
        """Of the data set that is followed, or was last."""
        self.hold: Hold | None = None
        self._hold_for = hold_for

    def observe(self, found: Marker | Mismatch, now: float) -> bool:
        """What redis shows at ``now``, seconds of a clock that never goes back; True: it is to be followed."""
        why = None if self.seen is None or self._hold_for == 0 else self._mismatch(self.seen, found)
        if why is None or self._expired(now) or self._passed(found):
            self._follow(found)
            return True
        if self.hold is None:
            self.hold = Hold(why, now, found if isinstance(found, Marker) else None)
        else:
            self.hold = Hold(why, self.hold.since, self._baseline(self.hold.baseline, found))
        return False

    def confirm(self, written: Marker | None) -> bool:
        """Whether what a script says that it wrote belongs to the data set that is followed.

        written: the marker that it left, which may be older than one that was observed since; None: it left none.
        """
        if self.seen is None:
            return True
        if self.hold is not None or written is None or written.incarnation != self.seen.incarnation:
            return False
        if written.counter > self.seen.counter:
            if mismatch(self.seen, written) is not None:
                return False
            self.seen = written
        return True

    def forget(self) -> None:
        """Accept whatever redis has: there is no copy to protect."""
        self.seen = self.hold = None

    def _mismatch(self, seen: Marker, found: Marker | Mismatch) -> Mismatch | None:
        why = mismatch(seen, found)
        if why is not None or self.hold is None or self.hold.baseline is None or isinstance(found, Mismatch):
            return why
        rewound = self.hold.baseline.incarnation == seen.incarnation == found.incarnation
        return Mismatch.OLDER if rewound and found.previous != ANY else None

    def _follow(self, found: Marker | Mismatch) -> None:
        self.hold = None
        self.seen = found if isinstance(found, Marker) and found.passes and not found.retired else None

    def _expired(self, now: float) -> bool:
        return self.hold is not None and now - self.hold.since >= self._hold_for

    def _passed(self, found: Marker | Mismatch) -> bool:
        """Whether a full pass of the reconciler ended during the hold."""
        if self.hold is None or self.hold.baseline is None or self.seen is None or isinstance(found, Mismatch):
            return False
        baseline = self.hold.baseline
        same = (found.incarnation, found.node_id) == (baseline.incarnation, self.seen.node_id)
        return same and found.counter > baseline.counter and found.passes > baseline.passes

    @staticmethod
    def _baseline(baseline: Marker | None, found: Marker | Mismatch) -> Marker | None:
        if isinstance(found, Mismatch):
            return None
        same = baseline is not None and baseline.incarnation == found.incarnation and mismatch(baseline, found) is None
        return baseline if same else found
