"""The first stream of a client, on which it registers: until its secret has come in."""

from __future__ import annotations

from collections.abc import Callable

from tfgateway.errors import ParseError
from tfgateway.tunnel.handshake import HandshakeParser
from tfgateway.tunnel.session.session import Session


class Registration:
    """A ``Channel`` that waits for the handshake."""

    buffered = 0

    def __init__(
        self,
        session: Session,
        stream: int,
        introduced: Callable[[int, bytes], None],
        rejected: Callable[[Session, str], None],
    ) -> None:
        """introduced: gets stream and secret, once. rejected: gets the reason, and closes the session."""
        self._session = session
        self._stream = stream
        self._introduced = introduced
        self._rejected = rejected
        self._parser = HandshakeParser()
        self._done = False
        session.accept(stream)

    def received(self, data: memoryview) -> None:
        """See ``Channel``."""
        try:
            secret = self._parser.feed(data)
        except ParseError as error:
            self._rejected(self._session, str(error))
            return
        if secret is not None:
            self._done = True
            self._introduced(self._stream, secret)

    def ended(self) -> None:
        """See ``Channel``."""
        if not self._done:
            self._rejected(self._session, "handshake: it ends too early")

    def dropped(self, reason: str) -> None:
        """See ``Channel``."""

    def may_send(self) -> None:
        """See ``Channel``."""
