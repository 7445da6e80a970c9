"""Only one reconciler writes: the lease in redis says which, and every transaction expects it to be unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any, Self

import msgspec
from redis.asyncio import Redis

from tfgateway.errors import LeaseError, StoreError
from tfgateway.layout.connection import store_errors
from tfgateway.layout.keys import LEASE
from tfgateway.reconciler.rows import Row
from tfgateway.telemetry.logs import logger
from tfgateway.telemetry.text import printable

_log = logger("reconciler")

_PROC = Path("/proc")
_LOOKS = 0.2
"""Seconds between two looks at a lease whose holder may have ended."""

# Takes or renews it; otherwise says who holds it, and for how many milliseconds more.
_HOLD = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] and found ~= ARGV[3] then return {found, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {}
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Holder(msgspec.Struct, frozen=True):
    """One process, as it stands in redis: never the same text for two of them."""

    node_id: str
    host: str
    pid: int
    space: str = ""
    """Boot and pid namespace: within the same one, ``pid`` can be looked for."""
    started: str = ""
    """Clock ticks from boot to the start of the process: a pid is given again."""

    @classmethod
    def me(cls, node_id: str) -> Self:
        """This process."""
        return cls(node_id, socket.gethostname(), os.getpid(), _space(), _started(os.getpid()))

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.host)} for node {printable(self.node_id)}"

    def runs(self) -> bool | None:
        """Whether it still runs; None: it cannot be known from here."""
        if not self.space or self.space != _space() or self.pid <= 0:
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # somebody else's, so there is one
            return True
        started = _started(self.pid)
        return self.started in ("", started) or not started


class Lease:
    """ttl: seconds for which it lasts without being renewed."""

    def __init__(self, redis: Redis, holder: Holder, ttl: float) -> None:
        self._ttl = ttl
        self._value = msgspec.json.encode(holder)
        self._hold = redis.register_script(_HOLD)
        self._release = redis.register_script(_RELEASE)
        self.row = Row(LEASE, None, self._value)
        """To be expected by every transaction: one that lost the lease writes nothing."""

    async def hold(self) -> None:
        """Take or renew it; one whose holder has ended without a word is taken over at once.

        Errors: ``LeaseError`` that says who holds it, ``StoreError``.
        """
        answer = await self._ask(b"")
        if answer and (holder := _read(answer[0])) is not None and holder.runs() is False:
            _log.info("lease taken over", of=str(holder))
            answer = await self._ask(answer[0])
        if answer:
            raise LeaseError(f"another reconciler holds the lease: {_read(answer[0]) or printable(answer[0])}")

    async def take(self) -> None:
        """As ``hold``, but outlasts a holder that may have died where nobody can see it. Errors: as ``hold``."""
        loop = asyncio.get_running_loop()
        answer = await self._ask(b"")
        holder = _read(answer[0]) if answer else None
        if holder is None or holder.runs() is not None:
            await self.hold()
            return
        _log.info("waiting until the lease ends or is renewed", holder=str(holder))
        # One that runs renews long before this.
        deadline = loop.time() + answer[1] / 1000 + _LOOKS
        while True:
            try:
                await self.hold()
            except LeaseError:
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(_LOOKS)
            else:
                return

    async def renew(self) -> None:
        """Keep it until cancelled, however long a pass takes. Errors: ``LeaseError``: it went to another."""
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                await self.hold()
            except StoreError as error:
                _log.warning("lease not renewed", reason=str(error))

    async def release(self) -> None:
        """Give it back, if it is ours; a redis that is away lets it expire."""
        with contextlib.suppress(StoreError), store_errors():
            await self._release(keys=[LEASE], args=[self._value])

    async def _ask(self, instead_of: bytes) -> list[Any]:
        with store_errors():
            answer: list[Any] = await self._hold(keys=[LEASE], args=[self._value, int(self._ttl * 1000), instead_of])
        return answer


def _read(raw: bytes) -> Holder | None:
    try:
        return msgspec.json.decode(raw, type=Holder)
    except msgspec.MsgspecError:
        return None


def _space() -> str:
    """Boot id and pid namespace; empty where the kernel does not say."""
    try:
        return f"{(_PROC / 'sys/kernel/random/boot_id').read_text().strip()} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Field 22 of proc_pid_stat(5); empty: it cannot be read."""
    try:
        return (_PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
