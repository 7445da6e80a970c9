"""Child processes of the supervisor: started without a shell, reaped without blocking."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

_DEFAULT = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)
"""Signals that a child treats as any process does."""

SUPERVISORS_OWN = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
"""Environment that no worker gets: only the supervisor reports to the service manager."""


def spawn(
    command: tuple[str, ...],
    environ: Mapping[str, str],
    *,
    passed: Iterable[int],
    standard: Sequence[int] = (),
) -> int:
    """Start a program; its pid. passed: descriptors that it inherits; standard: what becomes its 0, 1 and 2.

    Errors: ``OSError``.
    """
    moved = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(standard)]
    with inherited(passed):
        return os.posix_spawn(command[0], command, environ, file_actions=moved, setsigmask=[], setsigdef=_DEFAULT)


def open_file() -> BinaryIO:
    """An empty file in memory, which needs neither disk space nor a directory. Errors: ``OSError``."""
    return os.fdopen(os.memfd_create("tfgateway", os.MFD_CLOEXEC), "w+b")


@contextlib.contextmanager
def inherited(descriptors: Iterable[int]) -> Iterator[None]:
    """A context in which started programs inherit these descriptors."""
    passed = list(descriptors)
    try:
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        yield
    finally:
        for descriptor in passed:
            os.set_inheritable(descriptor, False)


def reap(pid: int) -> str | None:
    """How a child ended: ``exit code 1``, ``SIGKILL``; None: it is running."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return "lost"
    if not ended:
        return None
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
