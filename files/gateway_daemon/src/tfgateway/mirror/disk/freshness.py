"""The age of a copy on disk: when redis was last known to hold its content, even if the clock was set since.

That stands in the file's time of modification, for everybody to see, and with the boot in an extended attribute. Where
the file system has none, or the copy is of an earlier boot, the clock is all there is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from tfgateway import machine
from tfgateway.instant import NANOSECONDS, Instant

_ATTRIBUTE: Final = "user.tfgateway.known"


def confirm(path: Path, age: float) -> None:
    """Note that the copy was right so many seconds ago. Errors: ``OSError``: the file does not exist any more."""
    now = machine.now()
    known = now.unix_ns - round(age * NANOSECONDS)
    os.utime(path, ns=(known, known))
    with contextlib.suppress(OSError):
        os.setxattr(path, _ATTRIBUTE, msgspec.json.encode(Instant(known, now.boot, now.uptime - age)))


def age(path: Path) -> float:
    """Seconds since the copy was right, at least 0. Errors: ``OSError``."""
    now = machine.now()
    found = path.stat().st_mtime_ns
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        known = msgspec.json.decode(os.getxattr(path, _ATTRIBUTE), type=Instant)
        # Another program has set the file's time since: it counts.
        if known.boot == now.boot != "" and abs(known.unix_ns - found) < NANOSECONDS:
            return now.since(known)
    return max(0, now.unix_ns - found) / NANOSECONDS
