"""Requests of all endpoints: heads, bodies, numbers, queries, errors, CORS."""

from __future__ import annotations

import asyncio
import binascii
from typing import TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from tfgateway import gojson
from tfgateway.errors import ExplorerError, ParseError, StoreError
from tfgateway.explorer import wire
from tfgateway.explorer.server.api import bounds, responses
from tfgateway.explorer.server.api.responses import JsonResponse
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.storage import rows
from tfgateway.explorer.server.storage.connection import CommitOutcomeUnknown
from tfgateway.explorer.server.storage.listing import Listing
from tfgateway.identity.keys import PUBLIC_KEY_SIZE
from tfgateway.telemetry.logs import logger

_log = logger("explorer")
# With a 503: nothing was done, and the same request may be sent again.
_NOTHING_DONE = {"Retry-After": "1"}
_LONGEST_NUMBER = 18  # digits: what has more is no id, and does not fit into 64 bits
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class ApiError(ExplorerError):
    """An error response: HTTP status, text for the caller, further headers."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def missing() -> ApiError:
    """The 404 that clients know."""
    return ApiError(404, "mongo: no documents in result")


async def body(request: web.Request) -> bytes:
    """The whole body, bounded in size and time. Errors: ``ApiError`` 400, 408, 413."""
    try:
        async with asyncio.timeout(request.app[SERVICES].policy.body_timeout):
            return await request.read()
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time") from None
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "the body is too large") from None
    except (ConnectionError, web.RequestPayloadError, RuntimeError) as error:
        # A RuntimeError is aiohttp's word for a connection that closed before the body was asked for.
        if isinstance(error, RuntimeError) and request.transport is not None:
            raise
        # Its traceback would keep the request, and what has arrived of the body, until the garbage collector comes.
        error.__traceback__ = None
        raise ApiError(400, "the body did not arrive") from None


def parsed(raw: bytes) -> object:
    """The JSON value of a body, whatever its Content-Type says. Errors: ``ApiError`` 400."""
    try:
        return gojson.decode(raw)
    except ValueError as error:
        raise ApiError(400, f"not valid JSON: {error}") from error


def decoded(value: object, kind: type[_Struct]) -> _Struct:
    """An object of a body, its texts and lists bounded. Errors: ``ApiError`` 400."""
    try:
        return bounded(wire.decode(value, kind))
    except ParseError as error:
        raise ApiError(400, str(error)) from error


def bounded(posted: _Struct) -> _Struct:
    """The object itself. Errors: ``ApiError`` 400 when a text or list in it is too long."""
    if too_long := bounds.problem(posted):
        raise ApiError(400, too_long)
    return posted


def public_key(text: str) -> bytes:
    """The bytes of an ed25519 public key in hex. Errors: ``ApiError`` 400."""
    try:
        key = binascii.unhexlify(text)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_SIZE:
        raise ApiError(400, f"public key must be {PUBLIC_KEY_SIZE} bytes in hex")
    return key


def number(text: str) -> int | None:
    """An id or another number that a client names, of at most 18 decimal digits; None for everything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else None


def path_number(request: web.Request, name: str) -> int:
    """A number of the path, digits by its route. Errors: ``ApiError`` 404 when no id can be that large."""
    if (found := number(request.match_info[name])) is None:
        raise missing()
    return found


def query_number(request: web.Request, name: str) -> int | None:
    """A number of the query; None when absent. Errors: ``ApiError`` 400."""
    text = request.query.get(name, "")
    if not text:
        return None
    if (found := number(text)) is None:
        raise ApiError(400, f"{name} must be a number")
    return found


def paging(request: web.Request) -> tuple[int, int]:
    """Page (from 1) and size of a list; size 0 is the default size (E-11). Errors: ``ApiError`` 400."""
    policy = request.app[SERVICES].policy
    page, size = query_number(request, "page") or 1, query_number(request, "size") or policy.page
    # No table has that many rows, and SQLite's integers have 64 bits.
    return min(page, 2**32), min(size, policy.max_page)


async def listed(request: web.Request, listing: Listing) -> web.StreamResponse:
    """The page of a listing that the query asks for. Errors: ``ApiError`` 400."""
    page, size = paging(request)
    scan = request.app[SERVICES].database.scan
    begun, pages = await scan(lambda connection: listing.page(connection, page, size))
    return responses.rows(listing, scan, begun, {"Pages": str(pages)})


def _refusal(error: ApiError) -> JsonResponse:
    return JsonResponse(wire.encode({"error": str(error)}), error.status, error.headers)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as ``{"error": text}``; unknown routes and methods keep aiohttp's plain text."""
    try:
        return await handler(request)
    except ApiError as error:
        return _refusal(error)
    except rows.NotFound:
        return _refusal(missing())
    except CommitOutcomeUnknown as error:
        _log.error("database failed", path=request.path, reason=error)
        return JsonResponse(b'{"error":"the database failed: this may have been done, or not"}', 503)
    except StoreError as error:
        _log.error("database failed", path=request.path, reason=error)
        return JsonResponse(b'{"error":"the database failed"}', 503, _NOTHING_DONE)
    except web.HTTPException:
        raise
    except Exception:
        _log.exception("request failed", method=request.method, path=request.path)
        return JsonResponse(b'{"error":"internal error"}', 500)


@web.middleware
async def bounded_head(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request whose headers are too large together; aiohttp bounds each of them, and their number."""
    if sum(len(name) + len(value) for name, value in request.raw_headers) > request.app[SERVICES].policy.max_head:
        response = JsonResponse(b'{"error":"the headers are too large"}', 431)
        response.force_close()
        return response
    return await handler(request)


@web.middleware
async def close_while_draining(request: web.Request, handler: Handler) -> web.StreamResponse:
    """End connections with their next answer once this explorer is to stop: a request in flight would be lost."""
    response = await handler(request)
    if request.app[SERVICES].long_polls.closed:
        response.force_close()
    return response


@web.middleware
async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a CORS preflight request: all origins are allowed."""
    return web.Response() if request.method == "OPTIONS" else await handler(request)


async def allow_origins(_request: web.Request, response: web.StreamResponse) -> None:
    """The CORS headers of every answer."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Allow-Headers"] = "Content-Type"
    response.headers["Access-Control-Expose-Headers"] = "Pages"
