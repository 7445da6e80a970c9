"""Records what a piece of the program asks of the system, and lets one of these calls fail.

``sys.setprofile`` sees every call of a function written in C before it is carried out; what the callback raises is
what the caller gets, once. So no code under test is replaced, and no call can be forgotten: each is a step, written
``ROLE PLACE CALL``.

Inside a supervisor (``begin``) the file ``steps`` is the record, and ``order`` names a step and what becomes of it: an
errno, or an event.
"""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

SYSTEM = ("posix", "_socket", "socket", "select", "_posixsubprocess", "_io", "_signal", "fcntl", "mmap", "_thread")
"""Modules of the standard library whose functions in C are system calls, or nearly."""
CONSTRUCTORS = {("socket.py", "socket.__init__"): "socket.socket", ("selectors.py", "EpollSelector.__init__"): "epoll"}
"""Calls of types are not shown, but what wraps them in Python is."""

_SELF_PIPE = {"_write_to_self", "_read_from_self"}
"""By which an event loop wakes itself, by chance."""


def _call(frame: FrameType, event: str, argument: Any) -> str:
    """The name of a system call that is about to be made; empty: it is none."""
    if event == "call":
        made = CONSTRUCTORS.get((_file(frame), frame.f_code.co_qualname), "")
        return "socket.adopt" if made and frame.f_locals.get("fileno") is not None else made
    if event != "c_call":
        return ""
    owner = getattr(argument, "__self__", None)
    kind = owner if isinstance(owner, type(sys)) else type(owner)
    if frame.f_code.co_name in _SELF_PIPE:
        return "wakeup"
    module = getattr(kind, "__module__", "") if isinstance(kind, type) else kind.__name__
    if module not in SYSTEM or (module == "_thread" and argument.__name__ != "start_new_thread"):
        return ""
    if kind in (io.StringIO, io.BytesIO):
        return ""
    if kind is select.epoll and argument.__name__ == "modify":
        return "epoll.register"
    return f"{module}.{argument.__name__}" if isinstance(owner, type(sys)) else f"{kind.__name__}.{argument.__name__}"


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename.rpartition("/")[2].removeprefix("<frozen ").removesuffix(">")


def _place(frame: FrameType | None) -> str:
    """The innermost function of the package that leads to the call, and the innermost of all when that is another."""
    inner = ""
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if path.startswith("<frozen importlib"):
            return ""
        if "/tfgateway/" in path:
            module = path.rpartition("/tfgateway/")[2].removesuffix(".py").replace("/", ".")
            if module == "workers.supervisor" and name in ("run", "_take_over"):
                return f"event-loop{inner}"  # whichever of the two runs it
            if module != "workers.processes":  # what that does for others is a step of theirs
                return f"{module}:{name}{inner}"
            inner = f">{name}"
        file = _file(frame).removesuffix(".py")
        # Whether a selector registers or modifies depends on what was watched under this number before.
        inner = inner or (f">{file}" if file == "selectors" else f">{file}:{name}")
        frame = frame.f_back
    return inner.removeprefix(">")


class Steps:
    """To be given to ``sys.setprofile``: the calls of one process or thread, each kind of each place once."""

    def __init__(self, role: str, *, reached: Callable[[str], None]) -> None:
        """reached: called with each step before it is carried out; what it raises is what the step fails with."""
        self._role = role
        self._reached = reached
        self._seen: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "c_call"):
            return
        call = _call(frame, event, argument)
        place = call and _place(frame)
        step = f"{self._role} {place} {call}"
        if place and step not in self._seen:
            self._seen.add(step)
            self._reached(step)


def fail(step: str, error: int) -> None:
    """As this step fails."""
    if step.endswith(" _thread.start_new_thread"):
        raise RuntimeError("can't start new thread")
    raise OSError(error, os.strerror(error))


class _Order:
    """The record of a process in a directory, and what is to become of one step of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._record = os.open(directory / "steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        order = directory / "order"
        self._order = json.loads(order.read_text()) if order.exists() else {}

    def close(self) -> None:
        os.close(self._record)

    def __call__(self, step: str) -> None:
        os.write(self._record, f"{step}\n".encode())
        if step != self._order.get("step"):
            return
        (self._directory / "order").unlink()
        (self._directory / "carried-out").touch()
        what = self._order["with"]
        if isinstance(what, int):
            fail(step, what)
        else:
            EVENTS[what](self._directory)


def _workers() -> list[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in children if b"TFGATEWAY_WORKER=" in _environment(child)]


def _environment(pid: str) -> bytes:
    """Empty: it has just ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _kill(which: slice) -> None:
    for pid in _workers()[which]:
        os.kill(pid, signal.SIGKILL)


EVENTS: dict[str, Callable[[Path], object]] = {
    "the oldest worker is killed": lambda _: _kill(slice(0, 1)),
    "the youngest worker is killed": lambda _: _kill(slice(-1, None)),
    "current is removed": lambda directory: (directory / "current").unlink(missing_ok=True),
    "the release is removed": lambda directory: shutil.rmtree(directory / "releases" / "two", ignore_errors=True),
    "the configuration is removed": lambda directory: (directory / "gateway.toml").unlink(missing_ok=True),
    "the interpreter is removed": lambda directory: (directory / "releases/two/bin/python").unlink(missing_ok=True),
}
"""What else can happen at a step."""


def begin(directory: Path) -> None:
    """Record from the beginning of a reload to its end: here, and in the successor."""
    if {"TFGATEWAY_WORKER", "TFGATEWAY_REHEARSAL"} & os.environ.keys():
        return
    from tfgateway.telemetry import metrics  # noqa: F401 - imported here, where nothing is recorded: that takes long
    from tfgateway.workers import supervisor
    from tfgateway.workers.reload.perform import perform
    from tfgateway.workers.reload.takeover import TakeOver

    orders: list[_Order] = []
    complete = TakeOver.complete

    async def recorded(resources: Any) -> str:
        order = _Order(directory)
        sys.setprofile(Steps("reload", reached=order))
        try:
            return await perform(resources)
        finally:
            sys.setprofile(None)
            order.close()

    def completed(self: TakeOver, resources: Any) -> None:
        try:
            complete(self, resources)
        finally:
            sys.setprofile(None)
            for order in orders:
                order.close()

    supervisor.perform = recorded  # type: ignore[attr-defined]
    TakeOver.complete = completed  # type: ignore[method-assign]
    if "TFGATEWAY_HANDOVER" in os.environ and "TFGATEWAY_HANDED_BACK" not in os.environ:
        orders.append(_Order(directory))
        sys.setprofile(Steps("successor", reached=orders[0]))
