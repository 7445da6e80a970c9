"""A lease in redis, so that only one reconciler writes; every transaction expects the lease to be unchanged.

It ends by the clock of redis. When that is set back it would last hours longer, so a process that waits counts as well
how long it was not renewed.

With the lease goes a fencing token, a number that grows whenever the lease is taken, and that every transaction expects
too: one that was sent before the lease was lost is refused, even if its process has taken the lease again. The token
never falls for a process that has seen it, although a failover may bring an older one back.

In a group of gateways it is taken and renewed only while most Sentinels name the redis that holds it as the master. So
a master that was cut off from them has no holder after the time of the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
from redis.asyncio import Redis

from tfgateway.errors import LeaseError, StoreError
from tfgateway.ids import NodeId
from tfgateway.machine import boot_id
from tfgateway.reconciler.planning.inputs.rows import Row
from tfgateway.redis_schema.connection import confirm_master, store_errors
from tfgateway.redis_schema.keys import FENCE, LEASE
from tfgateway.telemetry.logs import logger
from tfgateway.telemetry.text import printable

_log = logger("reconciler")

_PROC = Path("/proc")
_LOOKS = 0.2
"""Seconds between two looks at a lease whose holder may have ended."""
_RENEWALS = 3
"""How often a holder renews it in the time that it lasts."""
_SURE = 2
"""Renewals after which its holder is known to run: one may have been the clock of redis that was set."""

# Takes or renews it, and returns its token; otherwise says who holds it, and for how many milliseconds more.
_HOLD = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] and found ~= ARGV[3] then return {found, redis.call('PTTL', KEYS[1])} end
local token, own = tonumber(redis.call('GET', KEYS[2])) or 0, tonumber(ARGV[4])
if found ~= ARGV[1] or token ~= own then
  token = math.max(token, own) + 1
  redis.call('SET', KEYS[2], string.format('%.0f', token))
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return string.format('%.0f', token)
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Holder(msgspec.Struct, frozen=True):
    """The identity of a process as it stands in redis, unique for each process."""

    node_id: NodeId
    host: str
    pid: int
    space: str = ""
    """Boot and pid namespace: within the same one, ``pid`` can be looked for."""
    started: str = ""
    """Clock ticks from boot to the start of the process: a pid is given again."""
    ttl: float = 0.0
    """Seconds after which its lease ends when it is not renewed; 0: an older release, which does not say."""

    @classmethod
    def me(cls, node_id: NodeId) -> Self:
        """The identity of this process."""
        return cls(node_id, socket.gethostname(), os.getpid(), _space(), _started(os.getpid()))

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.host)} for node {printable(self.node_id)}"

    def runs(self) -> bool | None:
        """Whether the process is running; None: it cannot be known from here."""
        if not self.space or self.space != _space() or self.pid <= 0:
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # another user's process, so there is one
            return True
        started = _started(self.pid)
        return self.started in ("", started) or not started


class Lease:
    """The lease of this process. ttl: seconds for which it is valid without being renewed."""

    def __init__(self, redis: Redis, holder: Holder, ttl: float) -> None:
        self._ttl = ttl
        self._redis = redis
        self._value = msgspec.json.encode(msgspec.structs.replace(holder, ttl=ttl))
        self._hold = redis.register_script(_HOLD)
        self._release = redis.register_script(_RELEASE)
        self._token = 0
        """The greatest that this process was given."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Lease and token, to be expected by every transaction: one that lost the lease writes nothing."""
        return Row(LEASE, None, self._value), Row(FENCE, None, b"%d" % self._token)

    async def hold(self) -> None:
        """Acquire or renew the lease; that of a holder that has ended is taken over at once.

        Errors: ``LeaseError`` that says who holds it, ``StoreError``.
        """
        answer = await self._ask(b"")
        if answer and (holder := read_holder(answer[0])) is not None and holder.runs() is False:
            answer = await self._take_over(answer[0])
        if answer:
            raise _held(answer[0])

    async def stand_by(self, report: Callable[[str], None]) -> None:
        """Wait until the lease is given up, expires, or its holder has ended, and take it.

        report: called with the holder, whenever that is another one. Errors: ``StoreError``.
        """
        loop = asyncio.get_running_loop()
        seen, watch = b"", _Watch(0.0)
        while True:
            asked = loop.time()
            if not (found := await self._ask(b"")):
                return
            holder = read_holder(found[0])
            ttl = self._ttl if holder is None else holder.ttl or self._ttl
            if found[0] != seen:
                seen, watch = found[0], _Watch(ttl / _RENEWALS / 2)
                report(str(holder or printable(seen)))
            watch.see(asked, loop.time(), found[1] / 1000)
            ended = holder is not None and holder.runs() is False
            if (ended or watch.quiet >= ttl) and not await self._take_over(seen):
                return
            await asyncio.sleep(_LOOKS)

    async def take(self) -> None:
        """As ``hold``, but waits for a lease to expire whose holder cannot be checked. Errors: as ``hold``."""
        answer = await self._ask(b"")
        holder = read_holder(answer[0]) if answer else None
        if holder is None or holder.runs() is not None:
            await self.hold()
            return
        ttl = holder.ttl or self._ttl
        _log.info("waiting until the lease ends or is renewed", holder=str(holder))
        loop = asyncio.get_running_loop()
        watch = _Watch(ttl / _RENEWALS / 2)
        while True:
            asked = loop.time()
            if not (found := await self._ask(b"")):
                return
            watch.see(asked, loop.time(), found[1] / 1000)
            if found[0] != answer[0] or watch.renewals == _SURE:
                raise _held(found[0])
            if watch.quiet >= ttl:
                break
            await asyncio.sleep(_LOOKS)
        if found := await self._take_over(answer[0]):
            raise _held(found[0])

    async def renew(self) -> None:
        """Renew until cancelled, however long a pass takes. Errors: ``LeaseError``: another process has it."""
        while True:
            await asyncio.sleep(self._ttl / _RENEWALS)
            try:
                await self.hold()
            except StoreError as error:
                _log.warning("lease not renewed", reason=str(error))

    async def release(self) -> None:
        """Release the lease, if it is ours; while redis is away it expires by itself."""
        with contextlib.suppress(StoreError), store_errors():
            await self._release(keys=[LEASE], args=[self._value])

    async def _take_over(self, value: bytes) -> list[Any]:
        _log.info("lease taken over", of=str(read_holder(value)))
        return await self._ask(value)

    async def _ask(self, instead_of: bytes) -> list[Any]:
        """Who holds it, and milliseconds that are left; empty: this process does."""
        await confirm_master(self._redis)
        arguments: list[bytes | int] = [self._value, int(self._ttl * 1000), instead_of, self._token]
        with store_errors():
            answer: list[Any] | bytes = await self._hold(keys=[LEASE, FENCE], args=arguments)
        if isinstance(answer, bytes):
            self._token = int(answer)
            return []
        return answer


class _Watch:
    """When a lease expires by our own clock: fixed, unless it is renewed (pure).

    tolerance: seconds by which that moment may be somewhere else. Times in seconds of one monotonic clock.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._ends: tuple[float, float] | None = None
        self._since = 0.0
        self.renewals = 0
        self.quiet = 0.0
        """Seconds since it was seen first, or renewed."""

    def see(self, asked: float, answered: float, left: float) -> None:
        """Observe that it has so many seconds left."""
        earliest, latest = asked + left, answered + left
        if self._ends is None:
            self._ends, self._since = (earliest, latest), answered
        elif earliest > self._ends[1] + self._tolerance or latest < self._ends[0] - self._tolerance:
            self._ends, self._since = (earliest, latest), answered
            self.renewals += 1
        self.quiet = answered - self._since


def _held(value: bytes) -> LeaseError:
    return LeaseError(f"another reconciler holds the lease: {read_holder(value) or printable(value)}")


def read_holder(raw: bytes) -> Holder | None:
    """Who holds the lease, of what stands in redis; None: it cannot be read."""
    try:
        return msgspec.json.decode(raw, type=Holder)
    except msgspec.MsgspecError:
        return None


def _space() -> str:
    """Boot id and pid namespace; empty where the kernel does not provide them."""
    try:
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}" if (boot := boot_id()) else ""
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start time of a process, field 22 of proc_pid_stat(5); empty: it cannot be read."""
    try:
        return (_PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
