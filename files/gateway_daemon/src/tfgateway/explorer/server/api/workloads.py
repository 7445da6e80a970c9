"""The user side of workloads: create, look up, sign."""

from __future__ import annotations

import binascii
from collections.abc import Callable

import msgspec
from aiohttp import web

from tfgateway.errors import CryptoError, ParseError
from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import (
    WORKLOAD_TYPES,
    Approval,
    NextAction,
    Result,
    SigningRequest,
    Workload,
    parse_workload,
)
from tfgateway.explorer.server.api import http, responses
from tfgateway.explorer.server.api.access import auth
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.api.validation import workload_problem
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.storage import rows, tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection, node_lock
from tfgateway.explorer.server.storage.listing import Listing
from tfgateway.net.addresses import is_literal, literals

_VERSION = 2
_FILTERS = ("customer_tid", "next_action", "workload_type")


async def create(request: web.Request) -> responses.JsonResponse:
    """POST /reservations/workloads."""
    services = request.app[SERVICES]
    user = await auth.user(request)
    posted = _posted(http.parsed(await http.body(request)))
    _check(posted, services.policy)
    if posted.customer_tid != user.id:
        raise ApiError(401, "request user identity does not match the reservation customer-tid")
    try:
        signing.verify_hex(bytes.fromhex(user.pubkey), signing.workload_message(posted), posted.customer_signature)
    except CryptoError as error:
        raise ApiError(400, f"failed to verify customer signature: {error}") from error
    now = services.now()

    def work(connection: DatabaseConnection) -> Workload:
        pool = rows.pool(connection, posted.pool_id)
        if pool is None:
            raise ApiError(404, "pool does not exist")
        if pool.customer_tid != user.id or posted.node_id not in pool.node_ids:
            raise ApiError(403, "not allowed to deploy workload on this pool")
        if services.policy.validate_workloads:
            _check_servable(connection, posted, services.policy)
        connection.lock(node_lock(posted.node_id))
        workload = msgspec.structs.replace(
            posted,
            id=rows.next_workload_id(connection),
            # With a quorum, the workload waits for its signatures (E-6); without one it is deployed at once.
            next_action=NextAction.SIGN if posted.signing_request_provision.quorum_min > 0 else NextAction.DEPLOY,
            signatures_provision=(),
            signature_farmer=Approval(),
            signatures_delete=(),
            result=Result(),
            version=_VERSION,
            epoch=now,
        )
        rows.add_workload(connection, workload)
        if workload.next_action == NextAction.DEPLOY:
            _announce(connection, workload)
        return workload

    workload = await services.database.write(work)
    services.publish(workload.node_id)
    return responses.JsonResponse(wire.encode({"reservation_id": workload.id}), 201)


async def listing(request: web.Request) -> web.StreamResponse:
    """GET /reservations/workloads."""
    wanted = {name: http.query_number(request, name) for name in _FILTERS}
    where: dict[str, int | str | bytes] = {name: value for name, value in wanted.items() if value is not None}
    return await http.listed(request, Listing.matching("workload", where))


async def one(request: web.Request) -> responses.JsonResponse:
    """GET /reservations/workloads/{id}."""
    workload_id = http.path_number(request, "id")
    body = await request.app[SERVICES].database.read(
        lambda connection: tables.find(connection, "workload", id=workload_id)
    )
    if body is None:
        raise http.missing()
    return responses.JsonResponse(body)


async def sign_provision(request: web.Request) -> responses.JsonResponse:
    """POST /reservations/workloads/{id}/sign/provision."""
    approval = await _approval(request)

    def work(connection: DatabaseConnection) -> Workload:
        workload = _signable(connection, request, approval, "provision")
        if workload.next_action != NextAction.SIGN:
            raise ApiError(401, "workload not expecting signatures")
        signed = msgspec.structs.replace(workload, signatures_provision=(*workload.signatures_provision, approval))
        if _reached(signed.signing_request_provision, signed.signatures_provision):
            signed = msgspec.structs.replace(signed, next_action=NextAction.DEPLOY)
            _announce(connection, signed)
        rows.change_workload(connection, signed)
        return signed

    return await _sign(request, work)


async def sign_delete(request: web.Request) -> responses.JsonResponse:
    """POST /reservations/workloads/{id}/sign/delete."""
    approval = await _approval(request)

    def work(connection: DatabaseConnection) -> Workload:
        workload = _signable(connection, request, approval, "delete")
        signed = msgspec.structs.replace(workload, signatures_delete=(*workload.signatures_delete, approval))
        reached = _reached(signed.signing_request_delete, signed.signatures_delete)
        if reached and workload.next_action not in (NextAction.DELETE, NextAction.DELETED):
            # Written where lists and polls look for it (E-8).
            signed = msgspec.structs.replace(signed, next_action=NextAction.DELETE)
            rows.enqueue(connection, signed)
        rows.change_workload(connection, signed)
        return signed

    return await _sign(request, work)


def _posted(value: object) -> Workload:
    try:
        workload = http.bounded(parse_workload(value))
    except ParseError as error:
        raise ApiError(400, str(error)) from error
    if workload.workload_type not in WORKLOAD_TYPES:
        raise ApiError(400, "unrecognized workload type")
    return workload


def _check(workload: Workload, policy: ExplorerPolicy) -> None:
    """Validate a workload. Errors: ``ApiError`` 400."""
    if not workload.customer_tid:
        raise ApiError(400, "customer_tid is required")
    if not workload.customer_signature:
        raise ApiError(400, "customer_signature is required")
    if len(workload.metadata.encode()) > policy.max_metadata:
        raise ApiError(400, f"metadata is longer than {policy.max_metadata} bytes")
    if not workload.pool_id:
        raise ApiError(400, "pool is required")
    if workload.reference:
        raise ApiError(400, "reference is illegal for new workloads")
    if workload.workload_id < 0:  # no node could answer for it (E-10)
        raise ApiError(400, "workload_id must not be negative")


def _check_servable(connection: DatabaseConnection, workload: Workload, policy: ExplorerPolicy) -> None:
    """Check that a gateway can serve it. Errors: ``ApiError`` 400 with what the gateway would say."""
    gateway = rows.gateway(connection, workload.node_id)
    if gateway is None:
        raise ApiError(400, f"gateway '{workload.node_id}' not found")
    own = literals([gateway.address]) if is_literal(gateway.address) else frozenset()
    if problem := workload_problem(workload, policy.max_addresses, own, gateway.managed_domains):
        raise ApiError(400, problem)


def _announce(connection: DatabaseConnection, workload: Workload) -> None:
    """Queue a new workload for its node; that copy has never had another ``next_action``."""
    rows.enqueue(connection, msgspec.structs.replace(workload, next_action=NextAction.CREATE))


async def _approval(request: web.Request) -> Approval:
    """The posted signature with the time of its arrival. Errors: ``ApiError`` 400."""
    posted = http.decoded(http.parsed(await http.body(request)), Approval)
    try:
        binascii.unhexlify(posted.signature)
    except ValueError:
        raise ApiError(400, "signature is not hex") from None
    return msgspec.structs.replace(posted, epoch=request.app[SERVICES].now())


def _signable(connection: DatabaseConnection, request: web.Request, approval: Approval, word: str) -> Workload:
    """The workload, once the approval of ``word`` has proven to be one. Errors: ``ApiError`` 400, 401, 404."""
    workload = rows.workload(connection, http.path_number(request, "id"), for_update=True)
    if word == "provision":
        wanted, given = workload.signing_request_provision, workload.signatures_provision
    else:
        wanted, given = workload.signing_request_delete, workload.signatures_delete
    if approval.tid not in wanted.signers:
        raise ApiError(401, f"signature not required for user '{approval.tid}'")
    if any(other.tid == approval.tid for other in given):
        raise ApiError(400, f"user '{approval.tid}' has signed already")
    user = rows.user(connection, approval.tid)
    message = signing.approval_message(workload, word, approval.tid)
    try:
        signing.verify_hex(bytes.fromhex(user.pubkey), message, approval.signature)
    except CryptoError as error:
        raise ApiError(401, f"failed to verify signature: {error}") from error
    return workload


def _reached(wanted: SigningRequest, given: tuple[Approval, ...]) -> bool:
    """Whether enough of the signers have signed; a quorum of 0 is never reached."""
    return 0 < wanted.quorum_min <= len({approval.tid for approval in given} & set(wanted.signers))


async def _sign(request: web.Request, work: Callable[[DatabaseConnection], Workload]) -> responses.JsonResponse:
    services = request.app[SERVICES]
    workload = await services.database.write(work)
    services.publish(workload.node_id)
    return responses.nothing(201)


ROUTES = tuple(
    route
    # The paths under /workloads are what the Go client really calls (E-3).
    for prefix in ("/reservations/workloads", "/workloads")
    for route in (
        web.post(prefix, create),
        web.get(prefix, listing),
        web.get(f"{prefix}/{{id:[0-9]+}}", one),
        web.post(f"{prefix}/{{id:[0-9]+}}/sign/provision", sign_provision),
        web.post(f"{prefix}/{{id:[0-9]+}}/sign/delete", sign_delete),
    )
)
