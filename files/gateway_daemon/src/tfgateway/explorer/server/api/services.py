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
from tfgateway.explorer.server.storage.long_polls import LongPolls


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one explorer. ``clock``: Unix seconds."""

    database: Database
    policy: ExplorerPolicy
    long_polls: LongPolls
    limits: ConnectionLimits
    clock: Callable[[], float] = time.time

    @property
    def registration(self) -> RegistrationMode:
        """Who may register what, once the database is open."""
        return self.policy.registration or self.database.registration or RegistrationMode.OPEN

    def now(self) -> int:
        """Unix seconds, whole."""
        return int(self.clock())


SERVICES = web.AppKey("services", Services)
