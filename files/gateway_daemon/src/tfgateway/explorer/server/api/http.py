"""Requests and responses of all endpoints: bodies, queries, errors, CORS."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from aiohttp import web

from tfgateway import gojson
from tfgateway.errors import ExplorerError, ParseError, StoreError
from tfgateway.explorer import wire
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.storage import rows
from tfgateway.identity.keys import PUBLIC_KEY_SIZE
from tfgateway.telemetry.logs import logger

_log = logger("explorer")
_MAX_ID = 2**63 - 1
_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(ExplorerError):
    """An error response: HTTP status, text for the caller, further headers."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def missing() -> ApiError:
    """The 404 that clients know."""
    return ApiError(404, "mongo: no documents in result")


def answer(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """One JSON value and a line feed."""
    return web.Response(status=status, body=body + b"\n", content_type="application/json", headers=headers)


def nothing(status: int = 200) -> web.Response:
    """Status 200 with an empty body."""
    return answer(b"null", status)


def array(bodies: Sequence[bytes], headers: dict[str, str]) -> web.Response:
    """A list of objects that are JSON already."""
    return answer(b"[" + b",".join(bodies) + b"]", headers=headers)


async def body(request: web.Request) -> bytes:
    """The whole body, bounded in size and time. Errors: ``ApiError`` 408, 413."""
    try:
        async with asyncio.timeout(request.app[SERVICES].policy.body_timeout):
            return await request.read()
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time") from None
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "the body is too large") from None


def parsed(raw: bytes) -> object:
    """The JSON value of a body, whatever its Content-Type says. Errors: ``ApiError`` 400."""
    try:
        return gojson.decode(raw)
    except ValueError as error:
        raise ApiError(400, f"not valid JSON: {error}") from error


def decoded(value: object, kind: type[_Struct]) -> _Struct:
    """An object of a body. Errors: ``ApiError`` 400."""
    try:
        return wire.decode(value, kind)
    except ParseError as error:
        raise ApiError(400, str(error)) from error


def public_key(text: str) -> bytes:
    """The bytes of an ed25519 public key in hex. Errors: ``ApiError`` 400."""
    try:
        key = binascii.unhexlify(text)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_SIZE:
        raise ApiError(400, f"public key must be {PUBLIC_KEY_SIZE} bytes in hex")
    return key


def path_number(request: web.Request, name: str) -> int:
    """A number of the path, digits by its route. Errors: ``ApiError`` 404 when no id can be that large."""
    number = int(request.match_info[name])
    if number > _MAX_ID:
        raise missing()
    return number


def query_number(request: web.Request, name: str) -> int | None:
    """A number of the query; None when absent. Errors: ``ApiError`` 400."""
    text = request.query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < len(str(_MAX_ID))):
        raise ApiError(400, f"{name} must be a number")
    return int(text)


def paging(request: web.Request) -> tuple[int, int]:
    """Page (from 1) and size of a list; size 0 is the default size (E-11). Errors: ``ApiError`` 400."""
    policy = request.app[SERVICES].policy
    page, size = query_number(request, "page") or 1, query_number(request, "size") or policy.page
    # No table has that many rows, and SQLite's integers have 64 bits.
    return min(page, 2**32), min(size, policy.max_page)


def _refusal(error: ApiError) -> web.Response:
    return answer(wire.encode({"error": str(error)}), error.status, error.headers)


@web.middleware
async def errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Errors as ``{"error": text}``; unknown routes and methods keep aiohttp's plain text."""
    try:
        return await handler(request)
    except ApiError as error:
        return _refusal(error)
    except rows.NotFound:
        return _refusal(missing())
    except StoreError as error:
        _log.error("database failed", path=request.path, reason=error)
        return answer(b'{"error":"the database failed"}', 503)
    except web.HTTPException:
        raise
    except Exception:
        _log.exception("request failed", method=request.method, path=request.path)
        return answer(b'{"error":"internal error"}', 500)


@web.middleware
async def preflight(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer a CORS preflight request: all origins are allowed."""
    return web.Response() if request.method == "OPTIONS" else await handler(request)


async def allow_origins(_request: web.Request, response: web.StreamResponse) -> None:
    """The CORS headers of every answer."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Allow-Headers"] = "Content-Type"
    response.headers["Access-Control-Expose-Headers"] = "Pages"
