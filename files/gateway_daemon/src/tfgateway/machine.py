"""The current time, and the identity of machine and boot."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from tfgateway.instant import Instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> Instant:
    """The current moment."""
    return Instant(time.time_ns(), boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))


@cache
def boot_id() -> str:
    """A random id, new with every boot; empty where the kernel has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
