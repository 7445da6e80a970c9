"""Which errors each system call may give: its manual page in section 2, and ip(7) and tcp(7) for what TCP passes on.

EINTR is in the list only where Python passes it on (PEP 475), EAGAIN only where it does not mean "nothing there yet":
an edge-triggered epoll reports again what was there all the time only when it is asked anew.
"""

from __future__ import annotations

from errno import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EAGAIN,
    EALREADY,
    EBADF,
    EBUSY,
    ECONNABORTED,
    ECONNREFUSED,
    ECONNRESET,
    EDESTADDRREQ,
    EDOM,
    EDQUOT,
    EEXIST,
    EFAULT,
    EHOSTDOWN,
    EHOSTUNREACH,
    EINTR,
    EINVAL,
    EIO,
    EISCONN,
    ELOOP,
    EMFILE,
    EMSGSIZE,
    ENETDOWN,
    ENETUNREACH,
    ENFILE,
    ENOBUFS,
    ENOENT,
    ENOMEM,
    ENONET,
    ENOPROTOOPT,
    ENOSPC,
    ENOSR,
    ENOTCONN,
    ENOTSOCK,
    ENOTTY,
    EOPNOTSUPP,
    EPERM,
    EPIPE,
    EPROTO,
    EPROTONOSUPPORT,
    EPROTOTYPE,
    ESOCKTNOSUPPORT,
    ESPIPE,
    ETIMEDOUT,
)

_BROKEN = (ECONNRESET, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH)  # tcp(7), ip(7)
_RECEIVE = (EBADF, EFAULT, EINVAL, ENOMEM, ENOTCONN, ENOTSOCK, *_BROKEN)
_SEND = (
    *(EACCES, EAGAIN, EALREADY, EBADF, EDESTADDRREQ, EFAULT, EINVAL, EISCONN, EMSGSIZE, ENOBUFS, ENOMEM, ENOTCONN),
    *(ENOTSOCK, EOPNOTSUPP, EPIPE, *_BROKEN),
)
_EPOLL_CTL = (EBADF, EEXIST, EINVAL, ELOOP, ENOENT, ENOMEM, ENOSPC, EPERM)
_NAME = (EBADF, EFAULT, EINVAL, ENOBUFS, ENOTSOCK)
_CLOSE = (EBADF, EINTR, EIO, ENOSPC, EDQUOT)

SYSTEM_CALLS = {
    "_accept": "accept4",
    "add": "epoll_ctl",
    "change": "epoll_ctl",
    "close": "close",
    "connect": "connect",
    "connect_ex": "connect",
    "fcntl": "fcntl",
    "getpeername": "getpeername",
    "getsockname": "getsockname",
    "getsockopt": "getsockopt",
    "pipe2": "pipe2",
    "recv": "recv",
    "recv_into": "recv",
    "remove": "epoll_ctl",
    "send": "send",
    "sendmsg": "send",
    "setblocking": "ioctl",
    "setsockopt": "setsockopt",
    "shutdown": "shutdown",
    "socket": "socket",
    "splice": "splice",
}
"""Of what the code calls, by Python's name. A name that is not here fails the test."""

ERRORS = {
    "accept4": (
        *(EBADF, ECONNABORTED, EFAULT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK, EOPNOTSUPP, EPERM, EPROTO),
        *(ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH, ENOSR, ESOCKTNOSUPPORT),
        *(EPROTONOSUPPORT, ETIMEDOUT),
    ),
    "close": _CLOSE,
    "connect": (
        *(EACCES, EPERM, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EALREADY, EBADF, ECONNREFUSED, EFAULT),
        *(EINTR, EINVAL, EISCONN, ENETUNREACH, ENOTSOCK, EPROTOTYPE, ETIMEDOUT, EHOSTUNREACH, ENETDOWN, ENOBUFS),
    ),
    "epoll_ctl": _EPOLL_CTL,
    "fcntl": (EBADF, EBUSY, EINVAL, EPERM, ENOMEM),
    "getpeername": (*_NAME, ENOTCONN),
    "getsockname": _NAME,
    "getsockopt": (EBADF, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK),
    "ioctl": (EBADF, EFAULT, EINVAL, ENOTTY),
    "pipe2": (EFAULT, EINVAL, EMFILE, ENFILE),
    "recv": _RECEIVE,
    "send": _SEND,
    "setsockopt": (EBADF, EDOM, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK, ENOMEM, ENOBUFS, EPERM),
    "shutdown": (EBADF, EINVAL, ENOTCONN, ENOTSOCK),
    "socket": (EACCES, EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT),
    "splice": (EBADF, EINVAL, ENOMEM, ESPIPE, EPIPE, *_BROKEN),
}


def errors(call: str) -> tuple[int, ...]:
    """What ``call``, by Python's name, may raise. Errors: ``KeyError``: the table has no entry for it."""
    return ERRORS[SYSTEM_CALLS[call]]
