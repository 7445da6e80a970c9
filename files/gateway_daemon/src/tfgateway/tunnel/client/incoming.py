"""A visitor's stream on its way to the local service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from tfgateway.errors import ParseError
from tfgateway.net import proxyproto
from tfgateway.net.sockets import close
from tfgateway.tunnel.client.connect import connect
from tfgateway.tunnel.client.model import ClientOptions, HostPort
from tfgateway.tunnel.session.session import Session
from tfgateway.tunnel.session.stream_relay import StreamEnding, StreamRelay, StreamRelayed
from tfgateway.tunnel.yamux.extensions import NONE, Extension

_TLS_HANDSHAKE = 0x16


class IncomingStream:
    """A visitor's stream until the local service has accepted: a ``StreamHandler`` that keeps what comes.

    One that sends nothing keeps no other waiting, and one that fails ends alone (T-16).
    """

    def __init__(
        self,
        session: Session,
        stream: int,
        extensions: Extension,
        options: ClientOptions,
        left: Callable[[StreamRelayed | None], None],
    ) -> None:
        """``left``: called once, at the end, with None when the service was not reached."""
        self._session = session
        self._stream = stream
        self._options = options
        self._left = left
        self._first = bytearray()
        self._extensions = extensions
        self._header = b"" if not options.proxy_protocol else proxyproto.encode(options.proxy_protocol, None)
        self._header_expected = extensions is not NONE and Extension.ADDRESS in extensions
        self._ended = False
        self._over = False
        self._dialling: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._silence = self._loop.call_later(options.dial_timeout, self._refuse)

    @property
    def buffered(self) -> int:
        """See ``StreamHandler``."""
        return len(self._first)

    def received(self, data: memoryview) -> None:
        """See ``StreamHandler``. The window bounds what is kept."""
        self._first += data
        self._session.count_buffered(len(data))  # may drop this stream
        if self._header_expected and not self._over:
            self._take_header()
        if self._dialling is None and self._first and not self._header_expected and not self._over:
            self._silence.cancel()
            # Only what the first byte says counts: whether it is TLS.
            tls = self._first[0] == _TLS_HANDSHAKE
            target = self._options.local_tls if tls else self._options.local
            self._dialling = asyncio.create_task(self._dial(target))

    def _take_header(self) -> None:
        """The gateway's PROXY header comes before what the visitor has sent."""
        try:
            announced = proxyproto.read(self._first)
        except ParseError:
            self._refuse()
            return
        if announced is None:
            return
        raw = bytes(self._first[: announced.length])
        del self._first[: announced.length]
        self._session.count_buffered(-len(raw))
        self._session.consume(self._stream, len(raw))
        self._header_expected = False
        if self._options.proxy_protocol:
            self._header = proxyproto.encode(self._options.proxy_protocol, announced.addresses)
        elif self._extensions & Extension.PASS_ON:
            self._header = raw

    def ended(self) -> None:
        """See ``StreamHandler``."""
        self._ended = True
        if self._dialling is None:
            self._refuse()

    def dropped(self, reason: str) -> None:
        """See ``StreamHandler``."""
        if self._dialling is not None:
            self._dialling.cancel()
        self._give_up()

    def may_send(self) -> None:
        """See ``StreamHandler``."""

    async def _dial(self, target: HostPort | None) -> None:
        try:
            if target is None:
                raise ConnectionRefusedError
            async with asyncio.timeout(self._options.dial_timeout):
                sock = await connect(target)
        except OSError:  # TimeoutError is one
            self._refuse()
            return
        if not _has_taken(sock, self._header):
            close(sock)
            self._refuse()
            return
        self._session.count_buffered(-len(self._first))
        relay = StreamRelay(
            self._session,
            self._stream,
            sock,
            b"",
            timeouts=self._options.timeouts,
            done=partial(self._done, sock),
        )
        self._session.bind(self._stream, relay)
        relay.received(memoryview(bytes(self._first)))
        if self._ended:
            relay.ended()
        relay.start()

    def _done(self, sock: socket.socket, relayed: StreamRelayed) -> None:
        if relayed.ending is StreamEnding.REFUSED:
            close(sock)
        self._left(relayed)

    def _refuse(self) -> None:
        self._session.reset(self._stream)
        self._give_up()

    def _give_up(self) -> None:
        self._over = True
        self._silence.cancel()
        self._session.count_buffered(-len(self._first))
        self._left(None)


def _has_taken(sock: socket.socket, header: bytes) -> bool:
    """A connection that has just been made has room for it."""
    try:
        return not header or sock.send(header) == len(header)
    except OSError:
        return False
