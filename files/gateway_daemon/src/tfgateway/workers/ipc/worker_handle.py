"""The record that a supervisor keeps of a worker process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tfgateway.workers.handover import State
from tfgateway.workers.ipc.channel import Channel
from tfgateway.workers.ipc.protocol import Failed
from tfgateway.workers.metrics.merged import Family
from tfgateway.workers.pool_spec import PoolSpec


@dataclass(eq=False)
class WorkerHandle:
    """State, deadlines, last metrics and channel of one worker.

    Times are of the monotonic clock, which goes on across a re-execution.
    """

    number: int
    slot: int
    generation: int
    pid: int
    spec: PoolSpec
    state: State = "starting"
    since: float = field(default_factory=time.monotonic)
    last_message: float = field(default_factory=time.monotonic)
    deadline: float | None = None
    """Monotonic time at which it is killed."""
    figures: tuple[Family, ...] = ()
    status: str = ""
    failure: Failed | None = None
    ended: str = ""
    """How it ended; empty: it is running."""
    token: int = -1
    """Token of the last ``Collect`` that was answered; -1: no metrics yet."""
    covers: bool = False
    """It knows ``Cover``."""
    covering: tuple[int, ...] | None = None
    """Other slots whose sockets it was asked to read; None: unknown, the supervisor before asked."""
    channel: Channel = field(init=False)

    @property
    def name(self) -> str:
        return f"worker-{self.number}"

    @property
    def active(self) -> bool:
        """Whether it is neither draining nor killed."""
        return self.state in ("starting", "ready", "serving")
