"""State that a supervisor hands over to its successor in the same process. Pure but for the file.

Releases hand over to each other in both directions: fields are only ever added, with a default.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, Literal

import msgspec

from tfgateway.errors import GatewayError
from tfgateway.plane import Endpoint
from tfgateway.workers.metrics.merged import Family
from tfgateway.workers.pool_spec import PoolSpec

State = Literal["starting", "ready", "serving", "draining", "killed"]
"""Of a worker. ready: it could serve, and waits for ``Go``. killed: a signal was sent to it."""


class ListenSocketState(msgspec.Struct, frozen=True):
    """A listening socket with its descriptor."""

    fd: int
    slot: int
    endpoint: Endpoint
    is_open: bool


class WorkerState(msgspec.Struct, frozen=True):
    """A worker, with the descriptor of its channel."""

    fd: int
    number: int
    slot: int
    generation: int
    pid: int
    state: State
    since: float
    deadline: float | None
    status: str
    figures: tuple[Family, ...]
    unread: bytes
    unsent: bytes
    covers: bool = False


_NAMES = {"spec": "plan", "listeners": "doors", "workers": "members", "control_fd": "desk_fd"}
"""As releases before this one named them in the file: a reload goes either way."""


class Handover(msgspec.Struct, frozen=True, rename=_NAMES):
    """The whole state."""

    spec: PoolSpec
    generation: int
    number: int
    runtime: str
    listeners: tuple[ListenSocketState, ...]
    workers: tuple[WorkerState, ...]
    retired: tuple[Family, ...]
    replaced: dict[str, int]
    reloads: dict[str, int]
    page_fd: int
    control_fd: int
    answered: tuple[int, ...]
    """Descriptors of callers that wait for the outcome of this reload."""
    waiting: tuple[int, ...]
    """Descriptors of callers that asked for another one since."""
    again: bool
    """Another reload was requested, by a caller or a signal."""
    back: tuple[str, ...] = ()
    """Command of the release that hands over: it goes on when its successor cannot. Empty: it could not."""

    @property
    def descriptors(self) -> Iterator[int]:
        """All descriptors that are open; -1, for a channel whose worker is gone, is left out."""
        named = (
            self.page_fd,
            self.control_fd,
            *self.answered,
            *self.waiting,
            *(listener.fd for listener in self.listeners),
            *(worker.fd for worker in self.workers),
        )
        return (fd for fd in named if fd >= 0)


def write(file: BinaryIO, state: Handover) -> None:
    """Make ``state`` all that is in the file. Errors: ``OSError``."""
    file.seek(0)
    file.truncate()
    file.write(msgspec.msgpack.encode(state))
    file.flush()


def read(descriptor: int) -> Handover:
    """What ``write`` wrote; the descriptor stays open. Errors: ``GatewayError``."""
    try:
        raw = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        return msgspec.msgpack.decode(raw, type=Handover)
    except (OSError, msgspec.MsgspecError) as error:
        raise GatewayError(f"this release cannot take over from the one that runs: {error}") from error
