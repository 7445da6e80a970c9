"""One line for each connection that has ended, or for a share of them: a line costs as much as a connection."""

from __future__ import annotations

import typing

from tfgateway.proxy.protocol import Protocol
from tfgateway.telemetry.logs import logger

_log = logger("proxy")


class EndedConnection(typing.Protocol):
    """What is logged of a connection."""

    listener: Protocol
    source: str
    """IP literal of the visitor."""
    host: str
    """That it asked for; "": none."""
    outcome: str
    """As in the metrics."""
    detail: str
    to_target: int
    """Bytes."""
    to_visitor: int
    seconds: float

    @property
    def target(self) -> str:
        """Where it was routed: ``ADDRESS:PORT``, ``tunnel``, or ""."""


class AccessLog:
    """Text from outside is escaped, and secrets are never in it (T-13)."""

    def __init__(self, share: float) -> None:
        """``share``: of the connections, 0 to 1; every second one for 0.5, not one by chance."""
        self._share = share
        self._due = 0.0

    def write(self, connection: EndedConnection) -> None:
        """Write the line of a connection, if it is its turn."""
        self._due += self._share
        if self._due < 1.0:
            return
        self._due -= 1.0
        _log.info(
            "connection",
            listener=connection.listener,
            source=connection.source,
            host=connection.host,
            target=connection.target,
            outcome=connection.outcome,
            detail=connection.detail,
            to_target=connection.to_target,
            to_visitor=connection.to_visitor,
            seconds=round(connection.seconds, 6),
        )
