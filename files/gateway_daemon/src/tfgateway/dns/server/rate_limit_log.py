"""Tells in the log whom responses were too many for: one line a minute, however large the flood."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from structlog.typing import FilteringBoundLogger

from tfgateway.dns.answer.rate_limit import RateLimiter

_SHOWN = 10


async def run(limiter: RateLimiter | None, log: FilteringBoundLogger, interval: float = 60.0) -> NoReturn:
    """Until cancelled; interval: seconds."""
    while True:
        await asyncio.sleep(interval)
        told = {} if limiter is None else limiter.report()
        if told:
            worst = sorted(told.items(), key=lambda item: -item[1])[:_SHOWN]
            log.warning(
                "responses limited",
                responses=sum(told.values()),
                networks=len(told),
                most=", ".join(f"{network} {count}" for network, count in worst),
            )
