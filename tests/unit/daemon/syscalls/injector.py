"""Between the proxy and the kernel, in this process: counts system calls by socket, and lets the n-th of them fail.

Each module under test gets a ``socket`` (``os``, ``fcntl``) module of its own, whose sockets have a *role*
(``visitor``, ``target`` ...); the sockets of the test and of asyncio are not touched. Whatever method a socket has is
intercepted, so that a call that nobody thought of is seen.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

from tests.unit.daemon.syscalls.errors import SYSTEM_CALLS

_NO_CALL = {
    "fileno",
    "getblocking",
    "gettimeout",
    "settimeout",
    "detach",
    "makefile",
    "get_inheritable",
    "strerror",
    "fspath",
}


class Fault(NamedTuple):
    """The ``number``-th ``call`` on a socket of ``role`` gives ``error``."""

    role: str
    call: str
    number: int
    error: int

    def __str__(self) -> str:
        return f"{self.role}.{self.call}#{self.number}={errno.errorcode[self.error]}"


class Injector:
    """What was called since ``arm``, and what is to fail."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.fired: list[Fault] = []
        self.unknown: set[str] = set()
        self.roles: dict[int, str] = {}
        """By descriptor, of the sockets that are open."""
        self.sockets: weakref.WeakSet[Any] = weakref.WeakSet()
        self._faults: dict[tuple[str, str, int], Fault] = {}

    def arm(self, faults: Iterable[Fault] = ()) -> None:
        """Count from nothing; these are to fail."""
        self.counts.clear()
        self.fired.clear()
        self._faults = {(fault.role, fault.call, fault.number): fault for fault in faults}

    def called(self, role: str, call: str) -> OSError | None:
        """Count a call; how it has to fail."""
        if call not in SYSTEM_CALLS:
            self.unknown.add(call)
        self.counts[role, call] += 1
        fault = self._faults.get((role, call, self.counts[role, call]))
        if fault is None:
            return None
        self.fired.append(fault)
        return OSError(fault.error, os.strerror(fault.error))

    def rename(self, roles: dict[str, str]) -> None:
        """Sockets that are open and have one of these roles get another one."""
        for sock in list(self.sockets):
            if sock.role in roles and sock.fileno() >= 0:
                self.roles[sock.fileno()] = sock.role = roles[sock.role]

    def socket_module(self, role: str, role_of_ordinary: str = "") -> Any:
        """``socket`` whose sockets have this role; those of the class ``socket.socket`` perhaps another one."""
        made = _copy(socket)
        made.SocketType = _intercepted(self, role, socket.SocketType)
        made.socket = _intercepted(self, role_of_ordinary or role, socket.socket)
        return made

    def module(self, original: ModuleType, role: str) -> Any:
        """``os`` or ``fcntl``."""
        made = _copy(original)
        for name, value in vars(original).items():
            if callable(value) and not isinstance(value, type) and name not in _NO_CALL and not name.startswith("_"):
                setattr(made, name, self._function(role, name, value))
        return made

    def epoll(self, original: select.epoll) -> _Epoll:
        """An epoll instance whose calls for sockets with a role are counted."""
        return _Epoll(self, original)

    def _function(self, role: str, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            failed = self.called(role, name)
            if failed is not None:
                if name == "close":  # the descriptor is gone whatever close(2) says
                    original(*arguments, **options)
                raise failed
            return original(*arguments, **options)

        return call


def _copy(original: ModuleType) -> Any:
    made = ModuleType(original.__name__)
    vars(made).update(vars(original))
    return made


def _intercepted(injector: Injector, role_of_new: str, base: type[Any]) -> type[Any]:
    """A kind of socket; one that takes over a descriptor asks for its name, as Python's do."""

    class Intercepted(base):  # type: ignore[misc]
        def __init__(self, family: int = -1, kind: int = -1, protocol: int = -1, fileno: int | None = None) -> None:
            self.role = role_of_new
            injector.sockets.add(self)
            failed = injector.called(self.role, "socket" if fileno is None else "getsockname")
            if failed is not None:
                raise failed
            super().__init__(family, kind, protocol, fileno)
            injector.roles[self.fileno()] = self.role

        def close(self) -> None:
            if self.fileno() < 0:
                return
            injector.roles.pop(self.fileno(), None)
            failed = injector.called(self.role, "close")
            super().close()
            if failed is not None:
                raise failed

        def detach(self) -> int:
            descriptor = int(super().detach())
            injector.roles.pop(descriptor, None)
            return descriptor

        def connect_ex(self, address: Any) -> int:
            failed = injector.called(self.role, "connect_ex")
            return int(failed.errno or 0) if failed is not None else int(super().connect_ex(address))

    def method(name: str) -> Callable[..., Any]:
        original = getattr(base, name)

        def call(self: Any, *arguments: Any) -> Any:
            failed = injector.called(self.role, name)
            if failed is not None:
                raise failed
            return original(self, *arguments)

        return call

    for name in dir(base):
        own = name in vars(Intercepted) or (name.startswith("_") and name != "_accept")
        if not own and callable(getattr(base, name)) and name not in _NO_CALL:
            setattr(Intercepted, name, method(name))
    return Intercepted


class _Epoll:
    def __init__(self, injector: Injector, original: select.epoll) -> None:
        self._injector = injector
        self._original = original
        self.poll = original.poll
        self.fileno = original.fileno
        self.close = original.close

    def register(self, descriptor: int, events: int) -> None:
        self._called(descriptor, "add")
        self._original.register(descriptor, events)

    def modify(self, descriptor: int, events: int) -> None:
        self._called(descriptor, "change")
        self._original.modify(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        role = self._injector.roles.get(descriptor)
        failed = self._injector.called(role, "remove") if role is not None else None
        self._original.unregister(descriptor)
        if failed is not None:
            raise failed

    def _called(self, descriptor: int, name: str) -> None:
        role = self._injector.roles.get(descriptor)
        failed = self._injector.called(role, name) if role is not None else None
        if failed is not None:
            raise failed
