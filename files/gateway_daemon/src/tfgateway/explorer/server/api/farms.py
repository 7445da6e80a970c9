"""The farms API: owners of gateways."""

from __future__ import annotations

import re

import msgspec
from aiohttp import web

from tfgateway.explorer import wire
from tfgateway.explorer.models import Farm
from tfgateway.explorer.server.api import http, responses
from tfgateway.explorer.server.api.access import auth
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.registration import RegistrationMode, farm_refusal
from tfgateway.explorer.server.storage import rows, tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection, UniqueViolation
from tfgateway.explorer.server.storage.listing import Listing

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TAKEN = "farm with same name exists"


async def create(request: web.Request) -> responses.JsonResponse:
    """POST /farms."""
    services = request.app[SERVICES]
    closed = services.registration is RegistrationMode.CLOSED
    signer = (await auth.user(request, bound=True)).id if closed else 0
    posted = http.decoded(http.parsed(await http.body(request)), Farm)
    _check(posted)
    if problem := farm_refusal(services.registration, posted, signer):
        raise ApiError(403, problem)

    def work(connection: DatabaseConnection) -> int:
        farm = msgspec.structs.replace(posted, id=connection.next_id("farm"))
        body = wire.encode(farm)
        tables.insert(connection, "farm", id=farm.id, name=farm.name, owner=farm.threebot_id, body=body)
        return farm.id

    try:
        farm_id = await services.database.write(work)
    except UniqueViolation:
        raise ApiError(409, _TAKEN) from None
    return responses.JsonResponse(wire.encode({"id": farm_id}), 201)


async def update(request: web.Request) -> responses.JsonResponse:
    """PUT /farms/{id}: everything but id and owner, by the owner."""
    user = await auth.user(request)
    farm_id = http.path_number(request, "id")
    posted = http.decoded(http.parsed(await http.body(request)), Farm)
    _check(posted)

    def work(connection: DatabaseConnection) -> None:
        owner = rows.farm(connection, farm_id, for_update=True).threebot_id
        if owner != user.id:
            raise ApiError(403, "only the owner of a farm can change it")
        if posted.threebot_id != owner:
            raise ApiError(400, "threebot_id is the owner, who cannot be changed")
        body = wire.encode(msgspec.structs.replace(posted, id=farm_id))
        tables.update(connection, "farm", farm_id, name=posted.name, body=body)

    try:
        await request.app[SERVICES].database.write(work)
    except UniqueViolation:
        raise ApiError(409, _TAKEN) from None
    return responses.nothing()


async def listing(request: web.Request) -> web.StreamResponse:
    """GET /farms."""
    where: dict[str, int | str | bytes] = {}
    if (owner := http.query_number(request, "owner")) is not None:
        where["owner"] = owner
    if name := request.query.get("name"):
        where["name"] = name
    return await http.listed(request, Listing.matching("farm", where))


async def one(request: web.Request) -> responses.JsonResponse:
    """GET /farms/{id}."""
    farm_id = http.path_number(request, "id")
    body = await request.app[SERVICES].database.read(lambda connection: tables.find(connection, "farm", id=farm_id))
    if body is None:
        raise http.missing()
    return responses.JsonResponse(body)


def _check(farm: Farm) -> None:
    """Validate a farm. Errors: ``ApiError`` 400."""
    if not _NAME.fullmatch(farm.name):
        raise ApiError(400, "name must be of letters, digits, - and _")
    if not farm.threebot_id:
        raise ApiError(400, "threebot_id is required")
    if not farm.wallet_addresses:
        raise ApiError(400, "wallet_addresses is required")


ROUTES = (
    web.post("/farms", create),
    web.get("/farms", listing),
    web.get("/farms/{id:[0-9]+}", one),
    web.put("/farms/{id:[0-9]+}", update),
)
