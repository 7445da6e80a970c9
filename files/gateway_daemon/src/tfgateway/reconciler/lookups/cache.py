"""A cache of DNS answers by domain, filled by a task of its own.

Passes never wait for it, since name servers are not trusted: a pass plans with what is known by then.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Generic, NamedTuple, TypeVar

from tfgateway.telemetry.logs import logger
from tfgateway.telemetry.text import printable

_log = logger("reconciler")

_MAX_AGE = 300.0
"""Seconds: longer than passes are apart, so that the next one still knows what was looked up for it."""
_LOOKUP_TIME = 5.0
"""Seconds for one domain."""
_AT_ONCE = 8
_MOST_QUESTIONS = 100
"""Domains that are looked up for one pass."""
_PER_SECOND = 20
"""Domains looked up a second, on average."""
_MOST_KNOWN = 10_000

_T = TypeVar("_T")


class _Fact(NamedTuple, Generic[_T]):
    value: _T
    until: float


class Lookups(Generic[_T]):
    """DNS answers by domain, each kept for ``_MAX_AGE``.

    lookup: asks DNS for one domain. failed: the value stored when it fails, with whatever error, or takes too long;
    ``event`` is logged then.
    """

    def __init__(
        self,
        event: str,
        lookup: Callable[[str], Awaitable[_T]],
        failed: _T,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._event = event
        self._lookup = lookup
        self._failed = failed
        self._clock = clock
        self._facts: dict[str, _Fact[_T]] = {}
        """The oldest first."""
        self._wanted: dict[str, None] = {}
        self._asked = asyncio.Event()

    def known(self) -> dict[str, _T]:
        """Domain -> value, of answers that are not too old; the others are dropped."""
        now = self._clock()
        self._facts = {domain: fact for domain, fact in self._facts.items() if fact.until > now}
        return {domain: fact.value for domain, fact in self._facts.items()}

    def ask(self, domains: Collection[str]) -> None:
        """Have ``run`` look up these domains; beyond a bound, others of them with the next pass."""
        free = _MOST_QUESTIONS - len(self._wanted)
        # At random: when there are always too many, each has its turn.
        chosen = list(domains) if len(domains) <= free else random.sample(list(domains), max(0, free))
        self._wanted.update(dict.fromkeys(chosen))
        if chosen:
            self._asked.set()

    async def run(self) -> None:
        """Look up what was asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            wanted, self._wanted = self._wanted, {}
            known = self.known()  # passes have asked again in the meantime
            asked = [domain for domain in wanted if domain not in known]
            await self.look_up(asked)
            await asyncio.sleep(len(asked) / _PER_SECOND)

    async def look_up(self, domains: Iterable[str]) -> None:
        """Look up domains now, the first of them when they are many: it takes about a minute at most."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(domain: str) -> None:
            async with limit:
                value = await self._value(domain)
            self._facts.pop(domain, None)
            self._facts[domain] = _Fact(value, self._clock() + _MAX_AGE)

        await asyncio.gather(*map(one, list(domains)[:_MOST_QUESTIONS]))
        for domain in list(self._facts)[: max(0, len(self._facts) - _MOST_KNOWN)]:
            del self._facts[domain]

    async def _value(self, domain: str) -> _T:
        try:
            async with asyncio.timeout(_LOOKUP_TIME):
                return await self._lookup(domain)
        except Exception as error:  # what an untrusted name server says must not end the reconciler
            reason = printable(str(error)) or type(error).__name__
            _log.warning(self._event, domain=printable(domain), reason=reason)
            return self._failed
