"""Authenticates requests, with what E-2 asks of a new server."""

from __future__ import annotations

import math

from aiohttp import web

from tfgateway.errors import CryptoError, IdentityError, ParseError, StoreError
from tfgateway.explorer import signing
from tfgateway.explorer.models import User
from tfgateway.explorer.server.api import http
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.explorer.server.api.services import SERVICES, Services
from tfgateway.explorer.server.storage import nonces, pins, rows
from tfgateway.explorer.server.storage.connection import CommitOutcomeUnknown, DatabaseConnection
from tfgateway.explorer.signing import Pin
from tfgateway.identity.keys import node_id_to_public_key

_CHALLENGE = {"WWW-Authenticate": f'Signature headers="{" ".join(signing.REQUIRED_ITEMS)}"'}
_PIN = web.RequestKey("pin", Pin)  # what the answer to a request says of it
_CLOCKS = 60  # seconds by which the clocks of explorers on one database may differ
_NOT_BOUND = f"the signature must cover {' '.join(signing.BOUND_ITEMS)}"


def unauthorized(reason: object) -> ApiError:
    """The 401 of a request that is not signed as it should be."""
    return ApiError(401, f"unauthorized access: {reason}", _CHALLENGE)


async def node(request: web.Request, *, bound: bool = False) -> str:
    """The node id that signed the request; it need not be registered. Errors: ``ApiError`` 401.

    bound: whether, here and below, only a bound signature is accepted.
    """
    signature = _signature(request)
    try:
        public_key = node_id_to_public_key(signature.key_id)
    except IdentityError as error:
        raise unauthorized(error) from error
    await _check(request, signature, public_key, bound=bound)
    return signature.key_id


async def path_node(request: web.Request, *, bound: bool = False) -> str:
    """The node id in the path, which must have signed. Errors: ``ApiError`` 401, 403."""
    node_id = request.match_info["node_id"]
    if await node(request, bound=bound) != node_id:
        raise ApiError(403, "the request is not signed by this node")
    return node_id


async def path_user(request: web.Request, *, bound: bool = False) -> User:
    """The user in the path, who must have signed. Errors: ``ApiError`` 401, 403."""
    signer = await user(request, bound=bound)
    if signer.id != http.path_number(request, "id"):
        raise ApiError(403, "the request is not signed by this user")
    return signer


async def user(request: web.Request, *, bound: bool = False) -> User:
    """The registered user that signed the request. Errors: ``ApiError`` 401."""
    signature = _signature(request)
    if (tid := http.number(signature.key_id)) is None:
        raise unauthorized("key id is not the id of a user")
    try:
        signer = await request.app[SERVICES].database.read(lambda connection: rows.user(connection, tid))
    except rows.NotFound as error:
        raise unauthorized(f"user {tid} is not known") from error
    await _check(request, signature, bytes.fromhex(signer.pubkey), bound=bound)
    return signer


def _signature(request: web.Request) -> signing.HttpSignature:
    try:
        return signing.parse_authorization(request.headers.getall("Authorization", []))
    except ParseError as error:
        raise unauthorized(error) from error


async def _check(request: web.Request, signature: signing.HttpSignature, public_key: bytes, *, bound: bool) -> None:
    services = request.app[SERVICES]
    if (bound or services.policy.require_bound_signatures) and not signature.bound:
        raise unauthorized(_NOT_BOUND)
    late = services.clock() - signature.created
    if abs(late) > services.policy.clock_skew:
        raise unauthorized(f"signed at {signature.created}, {late:.0f} s before our clock: check yours")
    if request.headers.getall("Threebot-Id", []) != [signature.key_id]:
        raise unauthorized("threebot-id is not the key id")
    target, headers = _as_signed(request)
    try:
        signing.verify_request(signature, public_key, method=request.method, target=target, headers=headers)
    except CryptoError as error:
        raise unauthorized(error) from error
    if not signature.bound:
        await _use_unbound(services, signature.key_id)
    # Without it nothing binds the body to its sender: neither this signature nor a workload's own (E-2, E-7).
    if signing.DIGEST in signature.items and request.headers.get(signing.DIGEST) != signing.digest(
        await http.body(request)
    ):
        raise unauthorized("digest is not of this body (SHA-256)")
    # Old clients sign none: two requests of one second legitimately have the same signature then.
    if signing.NONCE in signature.items:
        await _use_nonce(request, signature)


async def _use_unbound(services: Services, key_id: str) -> None:
    """Refuse a signature that is good for more than one request, or note that it was used. Errors: ``ApiError`` 401."""
    now = services.clock()
    pinned, unnoted = await services.database.read(
        lambda connection: (pins.pinned(connection, key_id), pins.unnoted(connection, key_id, now))
    )
    if pinned:
        raise unauthorized(f"{_NOT_BOUND}: the key is pinned")
    if unnoted:
        try:
            await services.database.write(lambda connection: pins.note(connection, key_id, now))
        except CommitOutcomeUnknown as error:
            raise StoreError(str(error)) from error  # what was asked for has not begun


def _as_signed(request: web.Request) -> tuple[str, list[tuple[str, str]]]:
    """Target and headers as the client sent them, before a reverse proxy."""
    headers = [
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in request.raw_headers
    ]
    public = request.app[SERVICES].policy.public_url
    if public is None:
        return request.raw_path, headers
    others = [(name, value) for name, value in headers if name.lower() != "host"]
    return public.target(request.raw_path), [("host", public.host), *others]


async def _use_nonce(request: web.Request, signature: signing.HttpSignature) -> None:
    services = request.app[SERVICES]
    given = request.headers.getall(signing.NONCE)
    if problem := signing.nonce_problem(" ".join(given)):
        raise unauthorized(f"{signing.NONCE} {problem}")
    now = services.clock()
    oldest = math.floor(now - services.policy.clock_skew) - _CLOCKS

    def work(connection: DatabaseConnection) -> Pin | None:
        nonces.use(connection, signature.key_id, given[0], signature.created, oldest=oldest)
        # None for a signature that is not bound: its use was noted just now.
        return pins.state(connection, signature.key_id, now)

    try:
        state = await services.database.write(work)
    except nonces.Repeated as error:
        raise unauthorized(error) from error
    except CommitOutcomeUnknown as error:
        raise StoreError(str(error)) from error  # what was asked for has not begun
    if state is not None:
        request[_PIN] = state


async def add_pin(request: web.Request, response: web.StreamResponse) -> None:
    """Say in the answer to a bound request whether the key's pin is set or offered."""
    if (state := request.get(_PIN)) is not None:
        response.headers[signing.PIN] = state
