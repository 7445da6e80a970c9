"""The services that request handlers use."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tfgateway.explorer.server.connections import ConnectionLimits
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.engine import Changes
from tfgateway.explorer.server.storage.long_polls import LongPolls


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one explorer. ``clock``: Unix seconds."""

    database: Database
    policy: ExplorerPolicy
    long_polls: LongPolls
    changes: Changes
    limits: ConnectionLimits
    clock: Callable[[], float] = time.time

    @property
    def registration(self) -> RegistrationMode:
        """Who may register what, once the database is open."""
        return self.policy.registration or self.database.registration or RegistrationMode.OPEN

    def publish(self, node_id: str) -> None:
        """Notify long polls of a committed change of the node, here and at other explorers."""
        self.long_polls.publish(node_id)
        self.changes.announce(node_id)

    def now(self) -> int:
        """Unix seconds, whole."""
        return int(self.clock())


SERVICES = web.AppKey("services", Services)
