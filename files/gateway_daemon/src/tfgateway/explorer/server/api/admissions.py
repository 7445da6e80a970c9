"""The admissions API: which gateways a farm's owner lets join it (ours)."""

from __future__ import annotations

import msgspec
from aiohttp import web

from tfgateway.errors import IdentityError
from tfgateway.explorer.models import AdmittedGateway
from tfgateway.explorer.servable import domain_refusal
from tfgateway.explorer.server import registration
from tfgateway.explorer.server.api import http, responses
from tfgateway.explorer.server.api.access import auth
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage import admissions, rows, tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection, node_lock
from tfgateway.explorer.server.storage.listing import Listing
from tfgateway.identity.keys import node_id_to_public_key


async def admit(request: web.Request) -> responses.JsonResponse:
    """PUT /farms/{id}/gateways/{node_id}: by the owner; in place of what was admitted before."""
    signer = await auth.user(request, bound=True)
    farm_id, node_id = http.path_number(request, "id"), request.match_info["node_id"]
    posted = http.decoded(http.parsed(await http.body(request)), AdmittedGateway)
    domains = registration.domains(posted.managed_domains)
    _check(node_id, domains)
    services = request.app[SERVICES]

    def work(connection: DatabaseConnection) -> None:
        _check_owner(connection, farm_id, signer.id)
        known = admissions.find(connection, farm_id, node_id)
        if known is None and admissions.count(connection, farm_id) >= services.policy.max_admitted:
            raise ApiError(400, f"a farm admits at most {services.policy.max_admitted} gateways")
        admissions.write(
            connection, msgspec.structs.replace(posted, farm_id=farm_id, node_id=node_id, managed_domains=domains)
        )

    await services.database.write(work)
    return responses.nothing()


async def withdraw(request: web.Request) -> responses.JsonResponse:
    """DELETE /farms/{id}/gateways/{node_id}: by the owner; where registration is closed, its entry ends with it."""
    signer = await auth.user(request, bound=True)
    farm_id, node_id = http.path_number(request, "id"), request.match_info["node_id"]
    services = request.app[SERVICES]

    def work(connection: DatabaseConnection) -> None:
        _check_owner(connection, farm_id, signer.id)
        connection.lock(node_lock(node_id))
        admissions.remove(connection, farm_id, node_id)
        entry = rows.gateway(connection, node_id)
        if services.registration is RegistrationMode.CLOSED and entry is not None and entry.farm_id == farm_id:
            tables.delete(connection, "gateway", entry.id)

    await services.database.write(work)
    return responses.nothing()


async def listing(request: web.Request) -> web.StreamResponse:
    """GET /farms/{id}/gateways."""
    return await http.listed(request, Listing.matching("admission", {"farm_id": http.path_number(request, "id")}))


def _check_owner(connection: DatabaseConnection, farm_id: int, tid: int) -> None:
    """Check who decides about a farm, one at a time. Errors: ``ApiError`` 403, ``rows.NotFound``."""
    if rows.farm(connection, farm_id, for_update=True).threebot_id != tid:
        raise ApiError(403, "only the owner of a farm decides which gateways it admits")


def _check(node_id: str, domains: tuple[str, ...]) -> None:
    """Validate what is admitted. Errors: ``ApiError`` 400."""
    try:
        node_id_to_public_key(node_id)
    except IdentityError as error:
        raise ApiError(400, str(error)) from error
    for domain in domains:
        if problem := domain_refusal(domain):
            raise ApiError(400, f"managed {problem}")


ROUTES = (
    web.get("/farms/{id:[0-9]+}/gateways", listing),
    web.put("/farms/{id:[0-9]+}/gateways/{node_id}", admit),
    web.delete("/farms/{id:[0-9]+}/gateways/{node_id}", withdraw),
)
