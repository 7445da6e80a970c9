"""The users API: registration, look-up, and verification of signatures."""

from __future__ import annotations

import binascii
import re

import msgspec
from aiohttp import web

from tfgateway.errors import CryptoError
from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import User
from tfgateway.explorer.server.api import http, responses
from tfgateway.explorer.server.api.access import auth
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage import pins, rows, tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection, UniqueViolation
from tfgateway.explorer.server.storage.listing import Listing
from tfgateway.explorer.wire import Int64
from tfgateway.identity.keys import verify

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_SHORTEST_NAME = 3
_TAKEN = "user with same name or email exists"


class _Creation(User, frozen=True):
    """A new user as posted; ``key_proof`` is ours, other clients leave it out."""

    key_proof: str = ""


class _Signed(msgspec.Struct, frozen=True):
    """A payload and signature to validate; both hex."""

    payload: str = ""
    signature: str = ""


class _Update(User, frozen=True):
    """A changed user as posted. ``sequence`` is ours, above that of the user's last update; 0: an old client's."""

    sender_signature_hex: str = ""
    sequence: Int64 = 0


async def create(request: web.Request) -> responses.JsonResponse:
    """POST /users."""
    posted = http.decoded(http.parsed(await http.body(request)), _Creation)
    name, email = posted.name.lower(), posted.email.lower()
    if len(name.encode()) < _SHORTEST_NAME:
        raise ApiError(400, f"name needs at least {_SHORTEST_NAME} characters")
    _check_email(email)
    key = http.public_key(posted.pubkey)
    services = request.app[SERVICES]
    required = services.policy.require_key_proof or services.registration is RegistrationMode.CLOSED
    _check_key_proof(posted, key, required=required)

    def work(connection: DatabaseConnection) -> User:
        tid = connection.next_id("user")
        user = User(id=tid, name=name, email=email, pubkey=key.hex())
        tables.insert(connection, "user", id=tid, name=name, email=email, body=wire.encode(user))
        return user

    try:
        user = await services.database.write(work)
    except UniqueViolation:
        raise ApiError(409, _TAKEN) from None
    return responses.JsonResponse(wire.encode(user), 201)


async def update(request: web.Request) -> responses.JsonResponse:
    """PUT /users/{id}: e-mail, host and description, signed by the user's key."""
    tid = http.path_number(request, "id")
    posted = msgspec.structs.replace(http.decoded(http.parsed(await http.body(request)), _Update), id=tid)
    email = posted.email.lower()
    _check_email(email)
    services = request.app[SERVICES]
    required = services.policy.require_bound_signatures

    def work(connection: DatabaseConnection) -> None:
        user = rows.user(connection, tid, for_update=True)
        try:
            message = signing.user_update_message(posted, posted.sequence)
            signing.verify_hex(bytes.fromhex(user.pubkey), message, posted.sender_signature_hex)
        except CryptoError as error:
            raise auth.unauthorized(error) from error
        _check_sequence(connection, posted, required=required or pins.pinned(connection, str(tid)))
        if not posted.sequence:
            pins.note(connection, str(tid), services.now())
        changed = msgspec.structs.replace(user, email=email, host=posted.host, description=posted.description)
        tables.update(connection, "user", tid, email=email, body=wire.encode(changed))

    try:
        await services.database.write(work)
    except UniqueViolation:
        raise ApiError(409, _TAKEN) from None
    return responses.nothing()


async def one(request: web.Request) -> responses.JsonResponse:
    """GET /users/{id}."""
    tid = http.path_number(request, "id")
    user = await request.app[SERVICES].database.read(lambda connection: rows.user(connection, tid))
    return responses.JsonResponse(wire.encode(user if await _signed(request) else _without_email(user)))


async def pin(request: web.Request) -> responses.JsonResponse:
    """PUT and DELETE /users/{id}/pin: accept bound signatures only, or others again."""
    signer = await auth.path_user(request, bound=True)
    services = request.app[SERVICES]
    await services.database.write(
        lambda connection: pins.change(connection, str(signer.id), pin=request.method == "PUT", now=services.now())
    )
    return responses.nothing()


async def listing(request: web.Request) -> web.StreamResponse:
    """GET /users."""
    where: dict[str, int | str | bytes] = {
        name: request.query[name].lower() for name in ("name", "email") if request.query.get(name)
    }
    if await _signed(request):
        return await http.listed(request, Listing.matching("user", where))
    return await http.listed(request, Listing.matching("user", where, _public))


async def validate(request: web.Request) -> responses.JsonResponse:
    """POST /users/{id}/validate: verify a user's signature."""
    tid = http.path_number(request, "id")
    posted = http.decoded(http.parsed(await http.body(request)), _Signed)
    try:
        payload, signature = binascii.unhexlify(posted.payload), binascii.unhexlify(posted.signature)
    except ValueError:
        raise ApiError(400, "payload and signature must be hex") from None
    user = await request.app[SERVICES].database.read(lambda connection: rows.user(connection, tid))
    return responses.JsonResponse(wire.encode({"is_valid": verify(bytes.fromhex(user.pubkey), payload, signature)}))


def _check_key_proof(posted: _Creation, key: bytes, *, required: bool) -> None:
    """Verify that the key is the caller's own (E-4), when a proof is given or required. Errors: ``ApiError`` 400."""
    if not posted.key_proof:
        if required:
            raise ApiError(400, "key_proof is required: a signature that proves possession of the key")
        return
    try:
        signing.verify_hex(key, signing.key_proof_message(posted), posted.key_proof)
    except CryptoError as error:
        raise ApiError(400, f"key_proof: {error}") from error


def _check_sequence(connection: DatabaseConnection, posted: _Update, *, required: bool) -> None:
    """Remember the update's sequence: an older update must not undo a newer one. Errors: ``ApiError`` 401.

    A user who has sent one once cannot leave it out again: that would be an older update of theirs.
    """
    row = connection.execute("SELECT sequence FROM user_update WHERE id = ?", (posted.id,)).fetchone()
    if (row or required or posted.sequence) and posted.sequence <= (last := row[0] if row else 0):
        raise auth.unauthorized(f"sequence must be above {last}: this update is older than another one")
    if posted.sequence:
        tables.replace(connection, "user_update", id=posted.id, sequence=posted.sequence)


def _check_email(email: str) -> None:
    if email and not _EMAIL.fullmatch(email):
        raise ApiError(400, "invalid email")


async def _signed(request: web.Request) -> bool:
    """Whether the request is signed by a user: others do not see e-mail addresses."""
    if "Authorization" not in request.headers:
        return False
    try:
        await auth.user(request)
    except ApiError:
        return False
    return True


def _without_email(user: User) -> User:
    return msgspec.structs.replace(user, email="")


def _public(_connection: DatabaseConnection, body: bytes) -> bytes:
    return wire.encode(_without_email(rows.read(body, User)))


ROUTES = (
    web.post("/users", create),
    web.get("/users", listing),
    web.get("/users/{id:[0-9]+}", one),
    web.put("/users/{id:[0-9]+}", update),
    web.post("/users/{id:[0-9]+}/validate", validate),
    web.put("/users/{id:[0-9]+}/pin", pin),
    web.delete("/users/{id:[0-9]+}/pin", pin),
)
