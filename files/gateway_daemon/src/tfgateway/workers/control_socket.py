"""The control socket of a supervisor: a unix socket in the plane's private directory that takes reload requests.

A request is ``reload`` and a line feed; the answer is one line, ``done TEXT`` or ``failed TEXT``, and the end.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from tfgateway.errors import GatewayError
from tfgateway.telemetry.logs import logger
from tfgateway.telemetry.text import printable

_QUESTION = b"reload\n"
_NAME = "control"
_MAX_ANSWER = 4096
_MAX_WAITING = 64
_PAUSE = 0.2
"""Seconds after an accept that failed."""

_log = logger("workers")


def runtime_directory(plane: str) -> Path | None:
    """The directory that systemd made for the plane: RUNTIME_DIRECTORY, or where a unit's would be; None: none."""
    path = Path(os.environ.get("RUNTIME_DIRECTORY", "") or f"/run/tfgateway-{plane}")
    return path if path.is_dir() else None


def ask(plane: str, timeout: float) -> str:
    """Reload the running plane; what the supervisor says when it is done. Errors: ``GatewayError``."""
    directory = runtime_directory(plane)
    if directory is None:
        raise GatewayError(f"{plane}: not running here (no /run/tfgateway-{plane}, no RUNTIME_DIRECTORY)")
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout)
        try:
            link.connect(str(directory / _NAME))
            link.sendall(_QUESTION)
            while len(answer) < _MAX_ANSWER and (part := link.recv(_MAX_ANSWER)):
                answer += part
        except TimeoutError:
            raise GatewayError(f"{plane}: no answer in {timeout:.0f} s: see its log") from None
        except OSError as error:
            raise GatewayError(f"{plane}: cannot ask at {directory / _NAME}: {error.strerror}") from error
    verdict, _, text = answer.decode(errors="replace").strip().partition(" ")
    if verdict != "done":
        raise GatewayError(f"{plane}: {text or 'ended while it reloaded: see its log'}")
    return text


class ControlSocket:
    """The supervisor's end of the control socket."""

    def __init__(self, sock: socket.socket, asked: Callable[[], None]) -> None:
        """sock: from ``open_control_socket``, or a predecessor's. asked: called when a reload is requested."""
        self.socket = sock
        self.waiting: list[socket.socket] = []
        """Callers that wait for the outcome."""
        self._asked = asked
        self._silent: set[socket.socket] = set()
        self._resume: asyncio.TimerHandle | None = None
        sock.setblocking(False)

    def start(self) -> None:
        """Accept requests from now on."""
        asyncio.get_running_loop().add_reader(self.socket, self._accept)

    def take(self) -> list[socket.socket]:
        """The callers that wait now: the next reload answers them."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def close(self) -> None:
        """Close all connections and the socket."""
        if self._resume is not None:
            self._resume.cancel()
        loop = asyncio.get_running_loop()
        for sock in (self.socket, *self._silent):
            loop.remove_reader(sock)
        for sock in (self.socket, *self._silent, *self.waiting):
            sock.close()

    def _accept(self) -> None:
        try:
            caller, _ = self.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor left: the caller stays in the queue
            _log.error("reload request not accepted yet", reason=error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self.socket)
            self._resume = loop.call_later(_PAUSE, self.start)
            return
        if len(self._silent) + len(self.waiting) >= _MAX_WAITING:
            caller.close()
            return
        caller.setblocking(False)
        self._silent.add(caller)
        asyncio.get_running_loop().add_reader(caller, self._read, caller)

    def _read(self, caller: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(caller)
        self._silent.discard(caller)
        try:
            question = caller.recv(len(_QUESTION))
        except OSError:
            question = b""
        if question == _QUESTION:
            self.waiting.append(caller)
            self._asked()
        else:
            caller.close()


def open_control_socket(directory: Path) -> socket.socket:
    """The listening socket; what a predecessor left there is replaced. Errors: ``OSError``."""
    path = directory / _NAME
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(8)
    return sock


def report(callers: Iterable[socket.socket], verdict: str, text: str) -> None:
    """Send the outcome and close. Call it in an event loop: when the kernel lacks memory, it tries again."""
    for caller in callers:
        try:
            caller.send(f"{verdict} {printable(text, _MAX_ANSWER // 4)}\n".encode())
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                asyncio.get_running_loop().call_later(_PAUSE, report, [caller], verdict, text)
                continue
        caller.close()
