"""DNS updates as the running reconciler has them: journal, service and socket together, or none of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

from tfgateway.errors import ConfigError, SchemaError
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.explorer_side.user_keys import UserKeyCache
from tfgateway.reconciler.planning.inputs.rows import Actual
from tfgateway.reconciler.store import Store
from tfgateway.reconciler.updates import journal
from tfgateway.reconciler.updates.server import UpdateServer
from tfgateway.reconciler.updates.service import Field, UpdateService, Write
from tfgateway.redis_schema import resource_records
from tfgateway.redis_schema.keys import zone_of_key
from tfgateway.settings import Settings
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")


class Updates:
    """Without a state directory, as for a command by hand, and in a group, nothing is taken and nothing is changed."""

    def __init__(
        self, settings: Settings, identity: Identity, store: Store, user_keys: UserKeyCache, write: Write
    ) -> None:
        """write: see ``UpdateService``. Errors: ``ConfigError``: the journal cannot be read."""
        self.users: Collection[str] = frozenset()
        """Decimal tids of all that have reservations here."""
        self._service: UpdateService | None = None
        self._server: UpdateServer | None = None
        directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        # Each member of a group would have a journal of its own, and the next leader not know what the last one wrote.
        if not directory or settings.redis.replica:
            return
        kept = journal.Journal(Path(directory) / journal.NAME)
        try:
            kept.load()
        except OSError as error:
            raise ConfigError(f"{Path(directory) / journal.NAME}: {error.strerror}") from error
        except SchemaError as error:
            _log.error(
                "no DNS updates: the journal cannot be read; move it away, and it begins anew with what redis has",
                path=str(Path(directory) / journal.NAME),
                reason=str(error),
            )
            return
        self._service = UpdateService(identity.node_id, settings.dns.updates, store, kept, write)
        if settings.dns.updates.enabled:
            path = Path(settings.dns.updates.socket)
            self._server = UpdateServer(path, identity, self._service, user_keys, lambda user: user in self.users)

    async def run(self) -> None:
        """Serve the DNS plane until cancelled."""
        if self._server is None:
            _log.info("no DNS updates: switched off, without a journal or state directory, or of a member of a group")
            await asyncio.Event().wait()
        else:
            await self._server.run()

    def fields(self, actual: Actual) -> list[Field]:
        """Fields of zones that have records by updates."""
        if self._service is None:
            return []
        return [
            (key, field)
            for key, fields in actual.hashes.items()
            if zone_of_key(key.encode("utf-8", "surrogateescape")) is not None
            for field, value in fields.items()
            if resource_records.has_any(value)
        ]

    def concern(self, domains: Collection[str]) -> bool:
        """Whether there are records by updates that depend on reservations of these domains."""
        return self._service is not None and self._service.concern(domains)

    async def restore(self, found: Collection[Field], domains: Collection[str] | None, *, whole: bool) -> None:
        """See ``UpdateService.restore``."""
        if self._service is not None:
            await self._service.restore(found, domains, whole=whole)
