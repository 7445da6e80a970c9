"""Where a gateway says that it stands: configured, asked for, remembered, or unknown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.explorer.models import Location
from tfgateway.reconciler.explorer_side.geoip import Locator, parse_location
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.connection import connect
from tfgateway.redis_schema.keys import LOCATION
from tfgateway.settings import GatewaySettings, LocationSettings

from tests.support.processes import RedisServer

ANSWER = {"longitude": 3.71667, "latitude": 51.05, "continent": "Europe", "country_name": "Belgium", "city": "Gent"}
GENT = Location(city="Gent", country="Belgium", continent="Europe", latitude=51.05, longitude=3.71667)
NOWHERE = Location(city="Unknown", country="Unknown", continent="Unknown")


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    client = connect(redis_server.url, timeout=30)
    yield Store(client)
    await client.aclose()


class Service:
    """``answer``: a body, or a status."""

    def __init__(self) -> None:
        self.answer: bytes | int = json.dumps(ANSWER).encode()
        self.url = ""
        self.asked = 0

    async def handle(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.answer) if isinstance(self.answer, int) else web.Response(body=self.answer)


@pytest.fixture
async def service(serve: Any) -> Service:
    made = Service()
    made.url = await serve(("GET", "/", made.handle)) + "/"
    return made


async def test_what_is_configured_counts_and_nobody_is_asked(store: Store, service: Service) -> None:
    settings = GatewaySettings(location=LocationSettings(city="Lochristi", latitude=51.1), geoip=service.url)
    found = await Locator(settings, store).location()
    assert found == Location(city="Lochristi", country="Unknown", continent="Unknown", latitude=51.1)
    assert service.asked == 0


async def test_nobody_is_asked_without_an_url(store: Store) -> None:
    assert await Locator(GatewaySettings(geoip=""), store).location() == NOWHERE


@pytest.mark.parametrize("answer", [500, 404, b"<html>", b"[]", b"", b"{" * 100_000, b" " * 100_000])
async def test_p17_the_service_is_asked_and_remembered_when_it_fails(
    store: Store, service: Service, answer: bytes | int
) -> None:
    locator = Locator(GatewaySettings(geoip=service.url), store)
    good, service.answer = service.answer, answer
    assert await locator.location() == NOWHERE
    service.answer = good
    assert await locator.location() == GENT
    service.answer = answer
    assert await locator.location() == GENT


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "no url", "ftp://x/", "http://[/"])
async def test_p17_a_service_that_is_away_or_no_service_is_no_error(store: Store, url: str) -> None:
    assert await Locator(GatewaySettings(geoip=url), store).location() == NOWHERE


async def test_p17_neither_is_a_redis_that_is_away(store: Store, service: Service, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set(LOCATION, "garbage")
    redis_server.stop()
    locator = Locator(GatewaySettings(geoip=service.url), store)
    assert await locator.location() == GENT
    service.answer = 500
    assert await locator.location() == NOWHERE


@pytest.mark.parametrize(
    "members",
    [{}, {"latitude": 91, "longitude": "3"}, {"latitude": True, "city": 7, "continent": None}, {"latitude": 1e999}],
)
def test_members_that_make_no_sense_are_unknown(members: dict[str, Any]) -> None:
    assert parse_location(json.dumps(members).replace("Infinity", "1e999").encode()) == NOWHERE


@given(
    st.binary() | st.dictionaries(st.text(), st.text() | st.floats() | st.none()).map(lambda d: json.dumps(d).encode())
)
def test_any_answer_is_a_location_or_a_value_error(raw: bytes) -> None:
    try:
        found = parse_location(raw)
    except ValueError:
        return
    assert -90 <= found.latitude <= 90
    assert found.city.isprintable()
