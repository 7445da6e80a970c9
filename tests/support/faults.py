"""What system calls can fail with, and which failures of the steps of ``failing`` to try out."""

from __future__ import annotations

import errno
from dataclasses import dataclass

_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_MEMORY = (errno.ENOMEM,)
_DISK = (errno.ENOSPC, errno.EIO, errno.ENOMEM)
_LOG = (errno.EAGAIN, errno.ENOSPC, errno.EPIPE, errno.EIO)
_FORK = (errno.EAGAIN, errno.ENOMEM, errno.ENOENT, errno.EACCES, errno.E2BIG, errno.ETXTBSY)
_NOTHING = "asks the kernel for nothing, or for what it cannot refuse"
_OWN = "of a descriptor that this process has made, and that is open"
_END = "what is closed is gone, whatever the kernel says"
_PEER = "fails when the other side is gone: that is an event, see failing.EVENTS"
ERRORS: dict[str, tuple[int, ...] | str] = {
    "posix.memfd_create": (*_DESCRIPTOR, *_MEMORY),
    "posix.pipe": _DESCRIPTOR,
    "posix.dup": _DESCRIPTOR[:1],
    "_socket.dup": _DESCRIPTOR[:1],
    "_io.open": (*_DESCRIPTOR, *_MEMORY),
    "posix.open": (*_DESCRIPTOR, *_MEMORY, errno.ENOENT, errno.EACCES),
    "socket.socket": (*_DESCRIPTOR, *_MEMORY, errno.ENOBUFS),
    "_socket.socketpair": (*_DESCRIPTOR, *_MEMORY),
    "epoll": (*_DESCRIPTOR, *_MEMORY),
    "epoll.register": (*_MEMORY, errno.ENOSPC),
    "_posixsubprocess.fork_exec": _FORK,
    "_thread.start_new_thread": (errno.EAGAIN,),
    "posix.posix_spawn": _FORK,
    "posix.execve": (*_FORK[1:], errno.ENOEXEC, errno.EIO, errno.EMFILE),
    "BufferedRandom.write": _DISK,
    "BufferedRandom.flush": _DISK,
    "BufferedRandom.truncate": _DISK,
    "BufferedRandom.seek": _DISK,
    "BufferedRandom.read": _DISK[1:],
    "BufferedWriter.write": _DISK,
    "BufferedWriter.flush": _DISK,
    "BufferedReader.seek": _DISK[1:],
    "BufferedReader.read": _DISK[1:],
    "TextIOWrapper.write": _LOG,
    "TextIOWrapper.flush": _LOG,
    "socket.bind": (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL, *_MEMORY),
    "socket.listen": (errno.EADDRINUSE,),
    "socket.connect": (errno.ECONNREFUSED, errno.ENOENT, errno.EAGAIN, errno.EACCES),
    "socket._accept": (*_DESCRIPTOR, *_MEMORY, errno.ENOBUFS, errno.ECONNABORTED),
    "socket.setsockopt": _MEMORY,
    "socket.send": (errno.ENOBUFS, *_MEMORY),
    "socket.sendmsg": (errno.ENOBUFS, *_MEMORY, errno.ETOOMANYREFS),
    "socket.recvmsg": _MEMORY,
    "socket.sendto": (errno.ENOBUFS, errno.ENOENT, errno.ECONNREFUSED),
    "posix.stat": (errno.ENOENT, errno.EACCES),
    "posix.scandir": (errno.ENOENT, *_DESCRIPTOR),
    "posix.unlink": (errno.ENOENT, errno.EROFS),
    "posix.kill": (errno.ESRCH,),
    "wakeup": "wakes the event loop; when that is not possible, it is awake",
    "epoll.poll": "waits: Python repeats it after a signal",
    "epoll.unregister": _OWN,
    "posix.waitstatus_to_exitcode": _NOTHING,
    "posix.waitpid": "of an own child, which nobody else waits for",
    "posix.pread": "of an own file in memory",
    "posix.fstat": _OWN,
    "posix.read": _PEER,
    "socket.recv": _PEER,
    "posix.set_blocking": _OWN,
    "posix.set_inheritable": _OWN,
    "socket.setblocking": _OWN,
    "socket.settimeout": _OWN,
    "socket.gettimeout": _NOTHING,
    "socket.fileno": _NOTHING,
    "FileIO.fileno": _NOTHING,
    "FileIO.close": _END,
    "BufferedRandom.fileno": _NOTHING,
    "BufferedRandom.close": _END,
    "BufferedRandom.__enter__": _NOTHING,
    "BufferedReader.__enter__": _NOTHING,
    "BufferedReader.__exit__": _END,
    "BufferedWriter.__enter__": _NOTHING,
    "BufferedWriter.__exit__": _END,
    "BufferedWriter.fileno": _NOTHING,
    "socket.close": _END,
    "socket.detach": _NOTHING,
    "socket.getsockname": _OWN,
    "socket.getpeername": _OWN,
    "socket.adopt": _OWN,
    "ScandirIterator.__exit__": _END,
    "posix.close": _END,
    "_socket.close": _END,
    "_socket.getdefaulttimeout": _NOTHING,
    "_socket.CMSG_LEN": _NOTHING,
    "_socket.CMSG_SPACE": _NOTHING,
    "posix.fspath": _NOTHING,
    "posix._path_normpath": _NOTHING,
    "posix.unsetenv": _NOTHING,
    "posix.getpid": _NOTHING,
    "posix.sched_getaffinity": _NOTHING,
    "_signal.pthread_sigmask": _NOTHING,
    "_signal.valid_signals": _NOTHING,
    "_signal.getsignal": _NOTHING,
    "_signal.signal": _NOTHING,
    "_signal.siginterrupt": _NOTHING,
    "_signal.set_wakeup_fd": _OWN,
}
"""What each call can fail with, by its man page; or why it cannot."""


@dataclass(frozen=True)
class Fault:
    """What becomes of one step: an errno, or one of ``failing.EVENTS``."""

    step: str
    what: int | str

    def __str__(self) -> str:
        return f"{self.step}: {self.what if isinstance(self.what, str) else errno.errorcode[self.what]}"


def faults(steps: list[str], *, every: bool) -> list[Fault]:
    """What to try out: each error of each step, or one step for each error that comes first in ``ERRORS``.

    Errors: ``AssertionError``: a call has no entry there.
    """
    unknown = {step.split(" ")[2] for step in steps} - set(ERRORS)
    assert not unknown, f"what can these fail with? {unknown}"
    made: list[Fault] = []
    covered: set[tuple[str, int]] = set()
    for step in steps:
        role, _, call = step.split(" ")
        errors = ERRORS[call]
        if isinstance(errors, str):
            continue
        if every:
            made += [Fault(step, error) for error in errors]
        elif (role, errors[0]) not in covered:
            covered.add((role, errors[0]))
            made.append(Fault(step, errors[0]))
    return made
