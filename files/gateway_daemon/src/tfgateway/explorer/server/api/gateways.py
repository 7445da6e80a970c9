"""The gateways API: the directory of gateways."""

from __future__ import annotations

import msgspec
from aiohttp import web

from tfgateway.explorer import wire
from tfgateway.explorer.models import Gateway, Location, WorkloadCounts
from tfgateway.explorer.servable import domain_refusal
from tfgateway.explorer.server.api import http, responses
from tfgateway.explorer.server.api.access import auth
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.registration import RegistrationMode, gateway_refusal
from tfgateway.explorer.server.storage import admissions, pins, rows, tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection, node_lock
from tfgateway.explorer.server.storage.listing import Listing
from tfgateway.explorer.wire import Int64
from tfgateway.identity.keys import public_key_to_node_id
from tfgateway.net.addresses import denied_reason


class _Uptime(msgspec.Struct, frozen=True):
    """Body of the heartbeat: seconds since the machine started."""

    uptime: Int64 = 0


async def register(request: web.Request) -> responses.JsonResponse:
    """POST /gateways: create, or replace all but id and creation time."""
    services = request.app[SERVICES]
    signer = await auth.node(request)
    posted = http.decoded(http.parsed(await http.body(request)), Gateway)
    if posted.node_id != signer:
        raise ApiError(403, "the request is not signed by this gateway")
    _check(posted)
    # Before anybody is asked on behalf of a gateway that cannot join.
    await services.database.read(lambda connection: _check_joins(connection, services.registration, posted))
    if services.policy.owner_resolver:
        # Imported here: few explorers check, and dnspython is a quarter of their start.
        from tfgateway.explorer.server.api.access import ownership

        await ownership.check(services.policy.owner_resolver, posted.managed_domains, posted.node_id)
    now = services.now()
    if not posted.address and request.remote and denied_reason(request.remote, (), ()) is None:
        # Behind 1:1 NAT, it does not know its own address; a reverse proxy in front of us has none that says anything.
        posted = msgspec.structs.replace(posted, address=request.remote)

    def work(connection: DatabaseConnection) -> None:
        connection.lock(node_lock(posted.node_id))
        _check_joins(connection, services.registration, posted)
        known = rows.gateway(connection, posted.node_id)
        if known is None:
            number = connection.next_id("gateway")
            entry = msgspec.structs.replace(posted, id=number, created=now, updated=now)
            tables.insert(connection, "gateway", id=number, **_columns(entry))
        else:
            _change(connection, msgspec.structs.replace(posted, id=known.id, created=known.created, updated=now))

    await services.database.write(work)
    return responses.nothing(201)


async def listing(request: web.Request) -> web.StreamResponse:
    """GET /gateways."""
    where: dict[str, int | str | bytes] = {
        name: request.query[name] for name in ("country", "city") if request.query.get(name)
    }
    if (farm_id := http.query_number(request, "farm_id")) is not None:
        where["farm_id"] = farm_id
    return await http.listed(request, Listing.matching("gateway", where))


async def one(request: web.Request) -> responses.JsonResponse:
    """GET /gateways/{node_id}."""
    node_id = request.match_info["node_id"]
    body = await request.app[SERVICES].database.read(
        lambda connection: tables.find(connection, "gateway", node_id=node_id)
    )
    if body is None:
        raise http.missing()
    return responses.JsonResponse(body)


async def uptime(request: web.Request) -> responses.JsonResponse:
    """POST /gateways/{node_id}/uptime."""
    node_id = await auth.path_node(request)
    posted = http.decoded(http.parsed(await http.body(request)), _Uptime)
    services = request.app[SERVICES]
    now = services.now()

    def work(connection: DatabaseConnection) -> None:
        entry = _registered(connection, node_id)
        _change(connection, msgspec.structs.replace(entry, uptime=posted.uptime, updated=now))

    await services.database.write(work)
    return responses.nothing()


async def reserved_resources(request: web.Request) -> responses.JsonResponse:
    """POST /gateways/{node_id}/reserved_resources: of a gateway only the counts are of interest."""
    node_id = await auth.path_node(request)
    counts = http.decoded(http.parsed(await http.body(request)), WorkloadCounts)

    def work(connection: DatabaseConnection) -> None:
        _change(connection, msgspec.structs.replace(_registered(connection, node_id), workloads=counts))

    await request.app[SERVICES].database.write(work)
    return responses.nothing()


async def pin(request: web.Request) -> responses.JsonResponse:
    """PUT and DELETE /gateways/{node_id}/pin: accept bound signatures only, or others again.

    ``?offered=1``: only if the pin is (still) offered, for who takes an offer while somebody may go back.
    """
    node_id = await auth.path_node(request, bound=True)
    services = request.app[SERVICES]
    now, offered = services.now(), request.query.get("offered") == "1"

    def work(connection: DatabaseConnection) -> None:
        _registered(connection, node_id)
        if offered and pins.state(connection, node_id, now) is None:
            raise ApiError(409, "no pin is offered to this gateway")
        pins.change(connection, node_id, pin=request.method == "PUT", now=now)

    await services.database.write(work)
    return responses.nothing()


def _check(gateway: Gateway) -> None:
    """Validate a gateway. Errors: ``ApiError`` 400."""
    if not gateway.node_id:
        raise ApiError(400, "node_id is required")
    if not gateway.farm_id:
        raise ApiError(400, "farm_id is required")
    if not gateway.os_version:
        raise ApiError(400, "os_version is required")
    if public_key_to_node_id(http.public_key(gateway.public_key_hex)) != gateway.node_id:
        raise ApiError(400, "node_id is not the base58 form of public_key_hex")
    for domain in gateway.managed_domains:
        if problem := domain_refusal(domain):
            raise ApiError(400, f"managed {problem}")
    if gateway.location == Location():
        raise ApiError(400, "location is required")


def _check_joins(connection: DatabaseConnection, mode: RegistrationMode, gateway: Gateway) -> None:
    """Check that the gateway may join its farm. Errors: ``ApiError`` 403, 404."""
    if tables.find(connection, "farm", id=gateway.farm_id) is None:
        raise ApiError(404, f"unknown farm id: {gateway.farm_id}")
    if problem := gateway_refusal(mode, gateway, admissions.find(connection, gateway.farm_id, gateway.node_id)):
        raise ApiError(403, problem)


def _registered(connection: DatabaseConnection, node_id: str) -> Gateway:
    entry = rows.gateway(connection, node_id, for_update=True)
    if entry is None:
        raise ApiError(404, f"gateway '{node_id}' not found")
    return entry


def _change(connection: DatabaseConnection, gateway: Gateway) -> None:
    tables.update(connection, "gateway", gateway.id, **_columns(gateway))


def _columns(gateway: Gateway) -> dict[str, int | str | bytes]:
    return {
        "node_id": gateway.node_id,
        "farm_id": gateway.farm_id,
        "country": gateway.location.country,
        "city": gateway.location.city,
        "body": wire.encode(gateway),
    }


ROUTES = (
    web.post("/gateways", register),
    web.get("/gateways", listing),
    web.get("/gateways/{node_id}", one),
    web.post("/gateways/{node_id}/uptime", uptime),
    web.post("/gateways/{node_id}/reserved_resources", reserved_resources),
    web.put("/gateways/{node_id}/pin", pin),
    web.delete("/gateways/{node_id}/pin", pin),
)
