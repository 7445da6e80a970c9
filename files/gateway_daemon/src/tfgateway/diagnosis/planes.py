"""Whether the data planes follow redis, from their metrics pages."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from tfgateway.redis_schema.marker import Mismatch
from tfgateway.settings import Settings
from tfgateway.telemetry import scrape

_WORDS: dict[str, str] = {
    Mismatch.ABSENT: "its data were lost",
    Mismatch.UNREADABLE: "its marker cannot be read",
    Mismatch.FOREIGN: "its data are another gateway's",
    Mismatch.REPLACED: "its data are others than before",
    Mismatch.OLDER: "its data are older than before",
}


@dataclass(frozen=True, slots=True)
class PlaneState:
    """The state of a plane that answers."""

    plane: str
    implausible: str
    """Why it does not follow redis (``redis_schema.marker.Mismatch``); empty: it does, or redis is away."""
    seconds: float
    """Since when."""

    @property
    def problem(self) -> str:
        """A problem for the operator; empty: there is none."""
        if not self.implausible:
            return ""
        words = _WORDS.get(self.implausible, self.implausible)
        return (
            f"{self.plane} has not followed redis for {self.seconds:.0f} s, and serves what it knew: {words}; it goes "
            "on after the reconciler's next full pass, or with `tfgateway redis accept`"
        )


async def plane_states(settings: Settings) -> tuple[PlaneState, ...]:
    """The states of all planes that answer."""
    pages = {"dns": settings.dns.metrics, "proxy": settings.proxy.metrics}
    if settings.fourtosix.endpoint:
        pages["fourtosix"] = settings.fourtosix.metrics
    texts = await asyncio.gather(*map(scrape.page, pages.values()))
    return tuple(_read(plane, text) for plane, text in zip(pages, texts, strict=True) if text is not None)


def _read(plane: str, text: str) -> PlaneState:
    held = re.findall(
        rf'^tfgateway_{plane}_redis_implausible_seconds\{{reason="([a-z]+)"\}} ([0-9.e+]+)$', text, re.MULTILINE
    )
    seconds, why = max(((float(value), reason) for reason, value in held if reason != "none"), default=(0.0, ""))
    return PlaneState(plane, why, seconds)
