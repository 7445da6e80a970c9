"""The node side of workloads: poll, post results, report deletions."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import msgspec
from aiohttp import web

from tfgateway.errors import CryptoError, ParseError
from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import NextAction, Result, ResultState, Workload, gwid
from tfgateway.explorer.server.api import http, responses
from tfgateway.explorer.server.api.access import auth
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.explorer.server.api.services import SERVICES, Services
from tfgateway.explorer.server.connections import source
from tfgateway.explorer.server.storage import rows
from tfgateway.explorer.server.storage.connection import DatabaseConnection
from tfgateway.explorer.server.storage.listing import Chunk, Listing
from tfgateway.identity.keys import node_id_to_public_key

_EMPTY = Listing.matching("queue", {})


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer to a poll: a listing of workloads and its beginning; ``queued``: they come from the queue."""

    listing: Listing
    begun: Chunk
    last_id: int
    queued: bool


async def poll(request: web.Request) -> web.StreamResponse:
    """GET /reservations/nodes/{node_id}/workloads?from=N[&wait=SECONDS].

    With ``wait`` the answer is held back until there is something that the node was not given yet.
    """
    services = request.app[SERVICES]
    node_id = request.match_info["node_id"]
    start = _start(request)
    wait = min(_wait(request), services.policy.max_wait)

    def work(connection: DatabaseConnection) -> _Page:
        return _collect(connection, node_id, start, services.policy.poll_page)

    with services.long_polls.watch(node_id) as changed:
        page = await services.database.read(work, node_id=node_id)
        until = asyncio.get_running_loop().time() + wait
        known = page.begun.bodies
        while wait and not _fresh(services, node_id, page) and page.begun.bodies == known:
            with services.long_polls.may_wait(changed, source(request.transport)) as may_wait:
                if not may_wait:
                    break
                woken = await _wait_for(changed, until, services.changes.recheck)
            changed.clear()
            page = await services.database.read(work, node_id=node_id)
            if woken:
                break
        if page.queued and not changed.is_set():
            services.long_polls.mark_delivered(node_id)
    return responses.rows(page.listing, services.database.read, page.begun, {"x-last-id": str(page.last_id)})


def _fresh(services: Services, node_id: str, page: _Page) -> bool:
    """Whether there is something that the node was not given yet."""
    return bool(page.begun.bodies) and not (page.queued and services.long_polls.delivered(node_id))


async def _wait_for(changed: asyncio.Event, until: float, recheck: float | None) -> bool:
    """Wait for a change; False: it is only time to look again. until: time of the loop; recheck: see ``Changes``."""
    left = until - asyncio.get_running_loop().time()
    last = recheck is None or recheck >= left
    try:
        await asyncio.wait_for(changed.wait(), left if last else recheck)
    except TimeoutError:
        return last
    return True


async def one(request: web.Request) -> responses.JsonResponse:
    """GET /reservations/nodes/workloads/{gwid}."""
    workload = await request.app[SERVICES].database.read(lambda connection: _workload(connection, request))
    return responses.JsonResponse(wire.encode(workload))


async def put_result(request: web.Request) -> responses.JsonResponse:
    """PUT /reservations/nodes/{node_id}/workloads/{gwid}, verified as E-1 asks."""
    services = request.app[SERVICES]
    node_id = await auth.path_node(request)
    posted = await _result(request, node_id)
    now = services.now()

    def work(connection: DatabaseConnection) -> None:
        workload = _own_workload(connection, request, node_id)
        if workload.next_action == NextAction.DELETED:
            return  # a late copy of an answer must not bring it back
        result = msgspec.structs.replace(posted, node_id=node_id, workload_id=gwid(workload), epoch=now)
        action = NextAction.DELETE if result.state == ResultState.ERROR else workload.next_action
        if result.state == ResultState.ERROR or workload.next_action != NextAction.DELETE:
            rows.dequeue(connection, workload.id)
        # Otherwise the user has deleted it meanwhile, and the deletion is queued.
        rows.change_workload(connection, msgspec.structs.replace(workload, result=result, next_action=action))

    await services.database.write(work)
    return responses.nothing(201)


async def delete(request: web.Request) -> responses.JsonResponse:
    """DELETE /reservations/nodes/{node_id}/workloads/{gwid}: it is gone from the node."""
    services = request.app[SERVICES]
    node_id = await auth.path_node(request)
    now = services.now()

    def work(connection: DatabaseConnection) -> None:
        workload = _own_workload(connection, request, node_id)
        result = msgspec.structs.replace(
            workload.result, state=ResultState.DELETED, node_id=node_id, workload_id=gwid(workload), epoch=now
        )
        rows.dequeue(connection, workload.id)
        changed = msgspec.structs.replace(workload, result=result, next_action=NextAction.DELETED)
        rows.change_workload(connection, changed)

    await services.database.write(work)
    return responses.nothing()


def _collect(connection: DatabaseConnection, node_id: str, start: int, size: int) -> _Page:
    """Live workloads from ``start`` on; only when there are none, what is queued, whatever its id."""
    for table, live, first in (("workload", " AND next_action IN (3, 4)", start), ("queue", "", 0)):
        condition = f"node_id = ?{live}"
        ids = f"SELECT id FROM {table} WHERE {condition} AND id >= ? ORDER BY id LIMIT ?"  # noqa: S608 - literals
        last = connection.execute(f"SELECT max(id) FROM ({ids}) AS page", (node_id, first, size)).fetchone()[0]  # noqa: S608
        if last is not None:
            # What comes in while the answer is written must not be in it: the client goes on behind ``last``.
            listing = Listing(table, f"{condition} AND id <= ?", (node_id, last))
            begun = listing.piece(connection, first - 1, size)
            return _Page(listing, begun, max(start, last), queued=table == "queue")
    return _Page(_EMPTY, Chunk([], 0, 0), connection.last_id("workload"), queued=False)


def _start(request: web.Request) -> int:
    """``from``, without which this is another route. Errors: 404 in plain text."""
    if (start := http.number(request.query.get("from", ""))) is None:
        raise web.HTTPNotFound
    return start


def _wait(request: web.Request) -> float:
    """Seconds of ``wait``. Errors: ``ApiError`` 400."""
    try:
        seconds = float(request.query.get("wait", "0"))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ApiError(400, "wait must be a number of seconds")
    return seconds


async def _result(request: web.Request, node_id: str) -> Result:
    """The posted result, signed by the node over the data's bytes as received. Errors: ``ApiError`` 400, 401."""
    raw = await http.body(request)
    result = http.decoded(http.parsed(raw), Result)
    if result.state not in (ResultState.ERROR, ResultState.OK):
        raise ApiError(400, "state must be 0 (error) or 1 (ok)")
    try:
        data = wire.raw_member(raw, "data_json")
        message = signing.result_message(result.state, result.message, data)
        signing.verify_hex(node_id_to_public_key(node_id), message, result.signature)
    except ParseError as error:
        raise ApiError(400, str(error)) from error
    except CryptoError as error:
        raise auth.unauthorized(f"result: {error}") from error
    return msgspec.structs.replace(result, data_json=data)


def _workload(connection: DatabaseConnection, request: web.Request, *, for_update: bool = False) -> Workload:
    """The workload that the path names. Errors: ``ApiError`` 404."""
    own, _, users = request.match_info["gwid"].partition("-")
    if (workload_id := http.number(own)) is None:
        raise http.missing()
    workload = rows.workload(connection, workload_id, for_update=for_update)
    if str(workload.workload_id) != users:
        raise http.missing()
    return workload


def _own_workload(connection: DatabaseConnection, request: web.Request, node_id: str) -> Workload:
    """The workload that the path names, to change it. Errors: ``ApiError`` 404, 403 when it is another node's."""
    workload = _workload(connection, request, for_update=True)
    if workload.node_id != node_id:
        raise ApiError(403, "the workload belongs to another node")
    return workload


_GWID = "{gwid:[0-9]+-[0-9]+}"
ROUTES = (
    web.get("/reservations/nodes/{node_id}/workloads", poll),
    web.get(f"/reservations/nodes/workloads/{_GWID}", one),
    web.put(f"/reservations/nodes/{{node_id}}/workloads/{_GWID}", put_result),
    web.delete(f"/reservations/nodes/{{node_id}}/workloads/{_GWID}", delete),
)
