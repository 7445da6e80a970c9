"""What a process is and takes, by /proc."""

from __future__ import annotations

import re
from pathlib import Path


def fields(pid: int) -> list[str]:
    """Of its ``stat`` (proc(5)), from the third on: state, parent ... Errors: ``OSError``: there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def memory(pid: int, what: str = "VmRSS") -> int:
    """In kB: ``VmRSS``, now, or ``VmHWM``, at its peak (proc(5)). Errors: ``RuntimeError``: it has ended."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError(f"the kernel does not tell {what}")
    return int(found[1])


def descriptors(pid: int) -> list[str]:
    """What its open ones lead to: ``socket:[4711]``, ``/var/log/messages``."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed in between
            continue
    return found
