"""Points in time whose age is right even when the clock is set: for values in redis that outlive a process (pure)."""

from __future__ import annotations

import msgspec

NANOSECONDS = 10**9


class Instant(msgspec.Struct, frozen=True):
    """A moment by the clock, and by the time since boot, which nobody sets."""

    unix_ns: int
    """Unix nanoseconds, by the clock of that moment."""
    boot: str = ""
    """Which boot of which machine (``machine.boot_id``); empty: not known, as in what older releases have written."""
    uptime: float = 0.0
    """Seconds since that boot, suspension included (CLOCK_BOOTTIME)."""

    @property
    def unix(self) -> float:
        """Unix seconds, by the clock of that moment."""
        return self.unix_ns / NANOSECONDS

    def since(self, earlier: Instant) -> float:
        """Seconds from ``earlier`` until this moment, at least 0.

        Within one boot the clock does not count. Otherwise it may have been set while the machine was down: then no
        more counts than the machine has been up since.
        """
        if self.boot and self.boot == earlier.boot:
            return max(0.0, self.uptime - earlier.uptime)
        return min(self.uptime, abs(self.unix_ns - earlier.unix_ns) / NANOSECONDS)
