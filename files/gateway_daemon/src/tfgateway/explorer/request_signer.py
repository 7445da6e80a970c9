"""Signs the requests of ``ExplorerClient``, so that each signature is good for one request (E-2).

An explorer verifies what a signature lists, and the old ones do so too. Where a reverse proxy rewrites path or host and
the explorer does not know its public URL, only the old form is accepted: it is used then, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

from tfgateway.explorer import signing
from tfgateway.identity.keys import Identity
from tfgateway.telemetry.logs import logger

_UNAUTHORIZED = 401
_TRY_AGAIN = 3600.0
_log = logger("explorer")


class RequestSigner:
    """Signs as ``key_id`` (node id or decimal tid). clock: Unix seconds."""

    def __init__(self, identity: Identity, key_id: str, clock: Callable[[], float]) -> None:
        self._identity = identity
        self._key_id = key_id
        self._clock = clock
        self._accepted = False
        self._unbound_until = float("-inf")

    def middleware(self, body: bytes) -> ClientMiddlewareType:
        """Signs a request with this body whenever it is sent: aiohttp may send one again, with a nonce of its own."""

        async def sign(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            if not self._accepted and self._clock() < self._unbound_until:
                request.headers.update(self._unbound(body))
                return await handler(request)
            request.headers.update(self._bound(request, body))
            response = await handler(request)
            self._accepted = self._accepted or response.ok
            # An explorer that has accepted the bound form must not make the client use the weaker one.
            if response.status != _UNAUTHORIZED or self._accepted:
                return response
            response.close()
            del request.headers[signing.NONCE]
            request.headers.update(self._unbound(body))
            response = await handler(request)
            if response.ok:
                self._unbound_until = self._clock() + _TRY_AGAIN
                _log.warning(
                    "the explorer refuses signatures that cover target and host: it has to know its public URL when a"
                    " reverse proxy rewrites them",
                    host=request.headers["Host"],
                )
            return response

        return sign

    def _bound(self, request: ClientRequest, body: bytes) -> dict[str, str]:
        once = signing.Once(
            method=request.method,
            target=request.url.raw_path_qs,
            host=request.headers["Host"],
            nonce=signing.new_nonce(),
        )
        return signing.request_headers(self._identity, self._key_id, int(self._clock()), body, once)

    def _unbound(self, body: bytes) -> dict[str, str]:
        return signing.request_headers(self._identity, self._key_id, int(self._clock()), body or None)
