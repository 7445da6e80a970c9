"""Logs the networks whose responses were limited: one line a minute, whatever the size of the flood."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from structlog.typing import FilteringBoundLogger

from tfgateway.dns.answer.rate_limit import RateLimiter

_SHOWN = 10


async def run(limiter: RateLimiter | None, log: FilteringBoundLogger, interval: float = 60.0) -> NoReturn:
    """Log until cancelled; interval: seconds."""
    while True:
        await asyncio.sleep(interval)
        limited = {} if limiter is None else limiter.report()
        if limited:
            worst = sorted(limited.items(), key=lambda item: -item[1])[:_SHOWN]
            log.warning(
                "responses limited",
                responses=sum(limited.values()),
                networks=len(limited),
                most=", ".join(f"{network} {count}" for network, count in worst),
            )
