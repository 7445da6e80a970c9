"""The pools API: the gateways that a user may reserve on. Gateways use no units."""

from __future__ import annotations

import msgspec
from aiohttp import web

from tfgateway import gojson
from tfgateway.errors import CryptoError
from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import Pool, PoolOrder
from tfgateway.explorer.server.api import http, responses
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.storage import pins, rows, tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection, UniqueViolation
from tfgateway.explorer.server.storage.listing import Listing
from tfgateway.explorer.wire import Int64

_NEVER = 2**63 - 1
_NO_ESCROW = {"address": "", "asset": "", "amount": 0}
_NO_NONCE = "an order needs a nonce, so that it is taken once"


class _Reservation(msgspec.Struct, frozen=True):
    """Body of a pool reservation; ``json`` is what is signed."""

    json: str = ""
    data_reservation: PoolOrder = PoolOrder()
    customer_tid: Int64 = 0
    customer_signature: str = ""


async def create(request: web.Request) -> responses.JsonResponse:
    """POST /reservations/pools."""
    services = request.app[SERVICES]
    posted = http.decoded(http.parsed(await http.body(request)), _Reservation)
    order = posted.data_reservation
    _check(posted, services.policy)
    now = services.now()

    def work(connection: DatabaseConnection) -> int:
        try:
            key = bytes.fromhex(rows.user(connection, posted.customer_tid).pubkey)
            signing.verify_hex(key, posted.json.encode(), posted.customer_signature)
        except CryptoError as error:
            raise ApiError(400, f"failed to verify customer signature: {error}") from error
        _check_nodes(connection, order.node_ids)
        if order.nonce:
            tables.insert(connection, "pool_order", customer_tid=posted.customer_tid, nonce=order.nonce)
        elif pins.pinned(connection, str(posted.customer_tid)):
            raise ApiError(400, _NO_NONCE)
        else:
            pins.note(connection, str(posted.customer_tid), now)
        pool = Pool(
            pool_id=connection.next_id("pool"),
            cus=order.cus,
            sus=order.sus,
            ipv4us=order.ipv4us,
            node_ids=order.node_ids,
            last_updated=now,
            empty_at=_NEVER,
            customer_tid=posted.customer_tid,
        )
        tables.insert(connection, "pool", id=pool.pool_id, customer_tid=pool.customer_tid, body=wire.encode(pool))
        return pool.pool_id

    try:
        pool_id = await services.database.write(work)
    except UniqueViolation:
        raise ApiError(409, "this order was sent before") from None
    return responses.JsonResponse(wire.encode({"reservation_id": pool_id, "escrow_information": _NO_ESCROW}), 201)


async def one(request: web.Request) -> responses.JsonResponse:
    """GET /reservations/pools/{id}."""
    pool_id = http.path_number(request, "id")

    def work(connection: DatabaseConnection) -> Pool | None:
        pool = rows.pool(connection, pool_id)
        return None if pool is None else rows.with_use(connection, pool)

    pool = await request.app[SERVICES].database.scan(work)
    if pool is None:
        raise http.missing()
    return responses.JsonResponse(wire.encode(pool))


async def of_owner(request: web.Request) -> web.StreamResponse:
    """GET /reservations/pools/owner/{tid}."""
    tid = http.path_number(request, "tid")

    def shown(connection: DatabaseConnection, body: bytes) -> bytes:
        return wire.encode(rows.with_use(connection, rows.read(body, Pool)))

    return await http.listed(request, Listing.matching("pool", {"customer_tid": tid}, shown))


def _check(posted: _Reservation, policy: ExplorerPolicy) -> None:
    """Validate without the database. Errors: ``ApiError`` 400, 409."""
    order = posted.data_reservation
    try:
        signed = wire.decode(gojson.decode(posted.json.encode()), PoolOrder)
    except ValueError as error:
        raise ApiError(400, f"json is not a pool reservation: {error}") from error
    if signed != order:
        raise ApiError(400, "json and data_reservation differ")
    if order.nonce:
        if problem := signing.nonce_problem(order.nonce):
            raise ApiError(400, f"nonce {problem}")
    elif policy.require_bound_signatures:
        raise ApiError(400, _NO_NONCE)
    if order.pool_id:
        raise ApiError(400, "a pool of gateways needs no further capacity: reserve a new one")
    if min(order.cus, order.sus, order.ipv4us) < 0:
        raise ApiError(400, "capacity must not be negative")
    if not 1 <= len(order.node_ids) <= policy.max_nodes:
        raise ApiError(400, f"a pool needs 1 to {policy.max_nodes} node_ids")
    if len(set(order.node_ids)) < len(order.node_ids):
        raise ApiError(409, "node_ids must be unique")


def _check_nodes(connection: DatabaseConnection, node_ids: tuple[str, ...]) -> None:
    farms = set()
    for node_id in node_ids:
        gateway = rows.gateway(connection, node_id)
        if gateway is None:
            raise ApiError(404, f"gateway '{node_id}' not found")
        farms.add(gateway.farm_id)
    if len(farms) > 1:
        raise ApiError(400, "node_ids must belong to one farm")


ROUTES = (
    web.post("/reservations/pools", create),
    web.get("/reservations/pools/{id:[0-9]+}", one),
    web.get("/reservations/pools/owner/{tid:[0-9]+}", of_owner),
)
