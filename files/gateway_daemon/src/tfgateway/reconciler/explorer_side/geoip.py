"""The location of this gateway: as configured, else from a GeoIP service."""

from __future__ import annotations

import aiohttp
import msgspec

from tfgateway import gojson
from tfgateway.errors import StoreError
from tfgateway.explorer.models import Location
from tfgateway.reconciler.store import Store
from tfgateway.settings import GatewaySettings, LocationSettings
from tfgateway.telemetry.logs import logger
from tfgateway.telemetry.text import printable

_log = logger("reconciler")

_PATIENCE = 10.0
_MOST_BYTES = 64 * 1024
_LONGEST_NAME = 200
_OK = 200
_UNKNOWN = Location(city="Unknown", country="Unknown", continent="Unknown")


class Locator:
    """Finds the location that the gateway publishes. Never fails: what cannot be found is ``Unknown``."""

    def __init__(self, settings: GatewaySettings, store: Store) -> None:
        self._configured = settings.location
        self._url = settings.geoip
        self._store = store

    async def location(self) -> Location:
        """The location to publish. The service is asked each time; its last answer is kept in redis."""
        if self._configured != LocationSettings():
            return Location(**msgspec.structs.asdict(self._configured))
        if not self._url:
            return _UNKNOWN
        try:
            found = parse_location(await _fetch(self._url))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.warning("location not found out", url=self._url, reason=printable(error) or type(error).__name__)
            return await self._remembered()
        try:
            await self._store.write_location(msgspec.json.encode(found))
        except StoreError as error:
            _log.warning("location not kept", reason=str(error))
        return found

    async def _remembered(self) -> Location:
        try:
            return msgspec.json.decode(await self._store.location() or b"", type=Location)
        except (StoreError, msgspec.MsgspecError):
            return _UNKNOWN


def parse_location(raw: bytes) -> Location:
    """The location in a GeoIP service's answer; members that are missing or invalid are 0 or ``Unknown``.

    Errors: ``ValueError``: it is no JSON object.
    """
    members = gojson.decode_object(raw)
    return Location(
        city=_name(members.get("city")),
        country=_name(members.get("country_name")),
        continent=_name(members.get("continent")),
        latitude=_degrees(members.get("latitude"), 90),
        longitude=_degrees(members.get("longitude"), 180),
    )


def _name(value: object) -> str:
    return printable(value, _LONGEST_NAME) if isinstance(value, str) and value else "Unknown"


def _degrees(value: object, most: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        return 0.0
    return float(value)


async def _fetch(url: str) -> bytes:
    """Errors: ``aiohttp.ClientError``, ``TimeoutError``, ``OSError``, ``ValueError``."""
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
        if response.status != _OK:
            raise ValueError(f"status {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_chunked(4096):
            body += chunk
            if len(body) > _MOST_BYTES:
                raise ValueError(f"more than {_MOST_BYTES} bytes")
        return bytes(body)
