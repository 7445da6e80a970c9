"""Whether the peer of a session is there, and how far away: pings and their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.yamux.connection import YamuxConnection

_MEASURE_EVERY = 0.25
"""Seconds between two measurements of the round trip while much is received."""


class Liveness:
    """Of one session."""

    def __init__(
        self,
        connection: YamuxConnection,
        limits: SessionLimits,
        *,
        due: Callable[[], None],
        dead: Callable[[], None],
        silent: Callable[[list[int]], None],
    ) -> None:
        """due: something is to be sent. dead: a ping was not answered in time.

        silent: gets the streams that the peer has not taken, when it does not say anything at all.
        """
        self._connection = connection
        self._limits = limits
        self._due = due
        self._dead = dead
        self._silent = silent
        self._loop = asyncio.get_running_loop()
        self._awaited_pong = -1
        self._pings: dict[int, float] = {}
        """Those without an answer, and when they were sent."""
        self._next_measurement = 0.0
        self._alive = False
        self._keepalive: asyncio.TimerHandle | None = None
        self._probe: asyncio.TimerHandle | None = None
        self.silent = False

    def start(self) -> None:
        """Ping from time to time."""
        self._restart(self._limits.ping_every, self._ping)

    def stop(self) -> None:
        """Do nothing any more."""
        for timer in (self._keepalive, self._probe):
            if timer is not None:
                timer.cancel()
        self._keepalive = self._probe = None

    def received(self) -> bool:
        """Something has come. True: it was silent until now."""
        self._alive = True
        was_silent, self.silent = self.silent, False
        return was_silent

    def answered(self, number: int) -> None:
        """The answer to a ping has come."""
        if number in self._pings:
            now = self._loop.time()
            self._connection.round_trip.add(now - self._pings.pop(number), now)
        if number == self._awaited_pong:
            self._awaited_pong = -1
            self.start()

    def measure(self, now: float) -> None:
        """Much is received: the round trip should be known."""
        if now >= self._next_measurement:
            self._next_measurement = now + _MEASURE_EVERY
            self._pings[self._connection.ping()] = now

    def expect_ack(self) -> None:
        """A stream was opened: within a while the peer takes it, or says something."""
        if self._probe is None:
            self._probe = self._loop.call_later(self._limits.ack_within, self._ask)

    def _ask(self) -> None:
        self._probe = None
        if self._connection.unacknowledged:
            self._alive = False
            if self._awaited_pong < 0:
                self._ping()
            self._probe = self._loop.call_later(self._limits.alive_within, self._give_up)

    def _give_up(self) -> None:
        self._probe = None
        if not self._alive:
            self.silent = True
            self._silent(self._connection.unacknowledged)

    def _ping(self) -> None:
        self._awaited_pong = self._connection.ping()
        self._pings[self._awaited_pong] = self._loop.time()
        self._restart(self._limits.pong_within, self._dead)
        self._due()

    def _restart(self, seconds: float, then: Callable[[], None]) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._keepalive = self._loop.call_later(seconds, then)
