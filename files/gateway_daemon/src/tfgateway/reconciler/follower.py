"""Follows the explorer: pages from 0 once and from time to time, then only what is new (provision-engine §3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from tfgateway.errors import ExplorerRefused, ExplorerUnavailable
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Undecodable, gwid
from tfgateway.reconciler.desired import Desired
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")

_MOST_PAGES = 10_000
"""Pages in one poll: an explorer that invents ids must not keep us from reconciling."""
_MOST_QUESTIONS = 200
"""Reservations that are asked for one by one in one pass."""
_AT_ONCE = 8
_NOT_FOUND = 404
_HIGHEST_ID = 10**18
"""Ids from here on are nonsense: an explorer that goes on after one could not be asked for anything."""
_RELIST_AFTER = 60.0
"""Seconds after the beginning of a listing before the explorer's ids may be found to have gone backwards again."""


class Follower:
    """Keeps ``desired`` up to date. resync_interval: seconds between two listings; clock: monotonic seconds."""

    def __init__(
        self, client: ExplorerClient, node_id: str, resync_interval: float, clock: Callable[[], float]
    ) -> None:
        self.desired = Desired(node_id)
        self._client = client
        self._node_id = node_id
        self._resync_interval = resync_interval
        self._clock = clock
        self._position = 0
        self._listing = False
        self.arriving = False
        """Are pages of a listing coming in right now?"""
        self._next_listing = clock()
        self._listed = clock()

    async def poll(self, wait: float = 0) -> bool:
        """Everything that is new, and the queue; False: there was nothing that was not known.

        wait: seconds that the explorer may hold its answer back until there is news; a listing is not held back.
        Errors: ``ExplorerError``; the position is kept (P-15).
        """
        try:
            return await self._poll(wait)
        finally:
            self.arriving = False

    async def _poll(self, wait: float) -> bool:
        before = self.desired.news
        if not self._listing and self._clock() >= self._next_listing:
            self.desired.begin_listing()
            self._listing = True
            self._listed = self._clock()
            self._position = 0
        for number in range(_MOST_PAGES):
            patience = wait if number == 0 and not self._listing else 0
            page = await self._client.poll(self._node_id, self._position, patience)
            self.arriving = self._listing
            highest = max((item.id for item in page.items if item.id < _HIGHEST_ID), default=-1)
            for item in page.items:
                if not self.desired.merge(item):
                    _log.warning("item skipped", id=item.id, reason=_unusable(item, self._node_id))
            # Not x-last-id: with queued items it moves past ids that nobody has got yet.
            if highest < self._position:
                if not page.items and page.last_id + 1 < self._position:
                    # Then it is the last id ever given out: the explorer was restored, or lied about an id before.
                    self._next_listing = min(self._next_listing, self._listed + _RELIST_AFTER)
                break
            self._position = highest + 1
        else:
            raise ExplorerUnavailable(f"the listing does not end after {_MOST_PAGES} pages")
        if self._listing:
            self.desired.end_listing()
            self._listing = False
            self._next_listing = self._clock() + self._resync_interval
            return True
        return self.desired.news != before

    async def ask_for(self, identifiers: Sequence[str]) -> None:
        """What a complete listing did not show is asked for by itself; only what the explorer says counts."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def ask(identifier: str) -> None:
            async with limit:
                try:
                    workload = await self._client.node_workload(identifier)
                except ExplorerRefused as error:
                    if error.status == _NOT_FOUND:
                        self.desired.unknown.add(identifier)
                    return
                except ExplorerUnavailable as error:
                    _log.warning("reservation could not be asked for", id=identifier, reason=str(error))
                    return
            if gwid(workload) != identifier or not self.desired.merge(workload):
                self.desired.unknown.add(identifier)

        await asyncio.gather(*map(ask, _first(identifiers)))


def _first(identifiers: Iterable[str]) -> list[str]:
    return list(identifiers)[:_MOST_QUESTIONS]


def _unusable(item: object, node_id: str) -> str:
    return item.reason if isinstance(item, Undecodable) else f"it is not for {node_id}"
