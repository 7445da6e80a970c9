"""What a process takes, by /proc."""

from __future__ import annotations

from pathlib import Path


def memory(pid: int) -> int:
    """Resident, in kB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def descriptors(pid: int) -> list[str]:
    """What its open ones lead to: ``socket:[4711]``, ``/var/log/messages``."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed in between
            continue
    return found
