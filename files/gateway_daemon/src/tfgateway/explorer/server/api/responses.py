"""Answers of all endpoints: JSON, counted in bytes until the client has taken it; long lists in pieces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from tfgateway.errors import StoreError
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.storage.connection import DatabaseConnection
from tfgateway.explorer.server.storage.listing import Chunk, Listing
from tfgateway.telemetry.logs import logger

_log = logger("explorer")
_TYPE = "application/json"
_Count = Callable[[int], AbstractContextManager[None]]
_Read = Callable[[Callable[[DatabaseConnection], Chunk]], Awaitable[Chunk]]


def _counter(request: web.BaseRequest) -> _Count:
    """Counts bytes of the answer to a request for as long as the context lasts."""
    if not isinstance(request, web.Request):
        raise TypeError("a request of no application")
    return partial(request.app[SERVICES].limits.sending, request.protocol)


def _uncounted(_size: int) -> AbstractContextManager[None]:
    return nullcontext()


class JsonResponse(web.Response):
    """One JSON value and a line feed."""

    def __init__(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(status=status, body=body + b"\n", content_type=_TYPE, headers=headers)
        self._size = len(body) + 1
        self._counted: _Count = _uncounted

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """As of any response."""
        self._counted = _counter(request)
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the body; counted until the client's kernel has it."""
        with self._counted(self._size):
            await super().write_eof(data)


class ListingResponse(web.StreamResponse):
    """A list of which the beginning was read; each further piece is read when the client has taken what was before."""

    def __init__(self, listing: Listing, read: _Read, begun: Chunk, headers: dict[str, str]) -> None:
        super().__init__(headers={"Content-Type": _TYPE, **headers})
        self._listing = listing
        self._read = read
        self._begun = begun
        self._wanted = True
        self._counted: _Count = _uncounted

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """As of any response."""
        self._counted = _counter(request)
        self._wanted = request.method != "HEAD"
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Write all rows. Errors: ``ConnectionError``: the client is gone, or the list cannot be completed."""
        piece, before = self._begun, b"["
        while piece.bodies and self._wanted:
            text = before + b",".join(piece.bodies)
            # Not kept while the client takes its time: it is in ``text``.
            piece.bodies.clear()
            with self._counted(len(text)):
                await self.write(text)
            before = b","
            piece = await self._next(piece)
        await super().write_eof(b"]\n" if self._wanted else b"")

    async def _next(self, piece: Chunk) -> Chunk:
        if not piece.left:
            return piece
        try:
            return await self._read(partial(self._listing.piece, after=piece.last, most=piece.left))
        except StoreError as error:
            _log.error("database failed", table=self._listing.table, reason=error)
            raise ConnectionError("the list cannot be completed") from error


def nothing(status: int = 200) -> JsonResponse:
    """Status 200 with an empty body."""
    return JsonResponse(b"null", status)


def rows(listing: Listing, read: _Read, begun: Chunk, headers: dict[str, str]) -> web.StreamResponse:
    """The rows of a listing, of which the beginning was read; in one piece when that was all."""
    if begun.left:
        return ListingResponse(listing, read, begun, headers)
    return JsonResponse(b"[" + b",".join(begun.bodies) + b"]", headers=headers)
