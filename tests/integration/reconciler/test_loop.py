"""The loop inside of this process: how it begins and how it ends."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tfgateway import settings
from tfgateway.aio import Backoff
from tfgateway.errors import ConfigError
from tfgateway.reconciler import service

from tests.integration.reconciler.conftest import Fleet
from tests.support.waiting import soon


async def test_it_ends_soon_whenever_it_is_told_to(fleet: Fleet) -> None:
    """A cancellation may get lost in asyncio or redis-py; the loop must end all the same."""
    wanted = settings.parse(fleet.config().replace("poll_interval = 0.2", "poll_interval = 0.01").encode())
    for _ in range(25):
        stopping = asyncio.Event()
        serving = service.serve(wanted, stopping=stopping, ready=lambda: None, status=lambda _text: None)
        task = asyncio.create_task(serving)
        await asyncio.sleep(random.random() * 0.2)
        stopping.set()
        done, _ = await asyncio.wait([task], timeout=20)
        assert done
        task.result()


async def test_a_metrics_address_in_use_is_a_configuration_error(fleet: Fleet) -> None:
    taken = settings.parse(fleet.config().replace(str(fleet.ports["rm"]), str(fleet.redis_server.port)).encode())
    with pytest.raises(ConfigError, match=r"reconciler\.metrics: cannot listen"):
        await service.serve(taken, stopping=asyncio.Event(), ready=lambda: None, status=lambda _text: None)


async def test_a_bug_ends_it_instead_of_leaving_half_of_it_running(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tfgateway.reconciler.explorer_side.registration.DirectoryEntry.run", broken)
    wanted = settings.parse(fleet.config().encode())
    with pytest.raises(ZeroDivisionError):
        await service.serve(wanted, stopping=asyncio.Event(), ready=lambda: None, status=lambda _text: None)


async def test_what_waits_is_sent_as_soon_as_the_explorer_is_back(
    fleet: Fleet, rogue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an hour away the back-off of the outbox is long; the next poll that succeeds ends it."""
    monkeypatch.setattr("tfgateway.reconciler.outbox.Backoff", lambda: Backoff(first=3600, longest=3600))
    rogue.deaf = True
    rogue.listing = [rogue.subdomain(1, "one")]
    text = fleet.config().replace(fleet.url, rogue.url)
    stopping, shown = asyncio.Event(), [""]
    task = asyncio.create_task(
        service.serve(settings.parse(text.encode()), stopping=stopping, ready=lambda: None, status=shown.append)
    )
    await soon(lambda: rogue.missed)
    rogue.away = True
    # Not how often it hung up: aiohttp repeats a GET on a connection that the other side closed.
    await soon(lambda: shown[-1].startswith("GET "))
    assert not rogue.results
    rogue.away = rogue.deaf = False
    await soon(lambda: len(rogue.results["1-1"]) == 1)
    stopping.set()
    await task
