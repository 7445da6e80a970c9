"""Scrapes the ``/metrics`` page of a plane."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
from prometheus_client.core import Sample
from prometheus_client.parser import text_string_to_metric_families

_TIME = 3.0
_LARGEST = 4 * 1024 * 1024
_KINDS = ("gauge", "counter")


async def read(listen: str) -> dict[str, float] | None:
    """Gauges and counters by name, summed over their labels; None: no answer. listen: ADDRESS:PORT."""
    text = await page(listen)
    return None if text is None else parse(text)


async def page(listen: str, time_limit: float = _TIME) -> str | None:
    """The text of a page; None: no answer within ``time_limit`` seconds."""
    try:
        async with (
            asyncio.timeout(time_limit),
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(f"http://{listen}/metrics") as answer,
        ):
            text = bytearray()
            while len(text) < _LARGEST and (part := await answer.content.read(_LARGEST - len(text))):
                text += part
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
    return text.decode("utf-8", "replace")


def parse(text: str) -> dict[str, float]:
    """Values by name, summed over labels, up to the first line that cannot be read."""
    found: dict[str, float] = {}
    try:
        for kind, sample in samples(text):
            if kind in _KINDS:
                found[sample.name] = found.get(sample.name, 0) + sample.value
    except ValueError:
        pass
    return found


def samples(text: str) -> Iterator[tuple[str, Sample]]:
    """Each value of a page (name, labels, value), with the type of its metric. Errors: ``ValueError``."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                yield family.type, sample
