"""One line for each connection that has ended, or for a share of them: a line costs as much as a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfgateway.telemetry.logs import logger

if TYPE_CHECKING:
    from tfgateway.proxy.connection import Connection

_log = logger("proxy")


class AccessLog:
    """Text of strangers is escaped and secrets are never in it (T-13)."""

    def __init__(self, share: float) -> None:
        """``share``: of the connections, 0 to 1; every second one for 0.5, not one by chance."""
        self._share = share
        self._due = 0.0

    def write(self, visit: Connection) -> None:
        """Write the line of a connection that has ended, if it is its turn."""
        self._due += self._share
        if self._due < 1.0:
            return
        self._due -= 1.0
        _log.info(
            "connection",
            listener=visit.listener,
            source=visit.source,
            host=visit.host,
            target=visit.target,
            outcome=visit.outcome,
            detail=visit.detail,
            to_target=visit.to_target,
            to_visitor=visit.to_visitor,
            seconds=round(visit.seconds, 6),
        )
