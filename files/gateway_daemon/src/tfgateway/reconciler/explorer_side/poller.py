"""Polls the explorer: all pages at first and from time to time, else only what changed."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Callable, Iterable, Sequence

from tfgateway.errors import ExplorerError, ExplorerRefused, ExplorerUnavailable
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import SKIPPED_BY_A_COPY, Undecodable
from tfgateway.ids import Gwid, NodeId
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")

_MOST_PAGES = 10_000
"""Pages in one poll: an explorer that invents ids must not keep us from reconciling."""
_MOST_QUESTIONS = 200
"""Reservations that are asked for one by one in one pass."""
_AT_ONCE = 8
_NOT_FOUND = 404
_HIGHEST_ID = 10**18
"""Ids from here on are invalid: after one of them, the explorer could not be asked for any later id."""
_RELIST_AFTER = 60.0
"""Seconds between two listings for the reason that the explorer seems to have been restored."""
_JUMP = SKIPPED_BY_A_COPY // 2
"""Ids by which the last one moves on when the explorer was restored: some were given out after the copy was made."""


class Poller:
    """Keeps ``desired`` up to date. resync_interval: seconds between two listings; clock: monotonic seconds."""

    def __init__(
        self, client: ExplorerClient, node_id: NodeId, resync_interval: float, clock: Callable[[], float]
    ) -> None:
        self.desired = Desired(node_id)
        self._client = client
        self._node_id = node_id
        self._resync_interval = resync_interval
        self._clock = clock
        self._position = 0
        self._last_id = 0
        """The id that was given out last, of all nodes, as far as it was said."""
        self._listing = False
        self._interrupted = False
        """Did a page of this listing fail, so that it may show an explorer before and after it was restored?"""
        self._away = False
        # Spread, since all gateways of a fleet notice its return at the same time.
        self._after_away = _RELIST_AFTER * (1 + zlib.crc32(node_id.encode()) / 2**32)
        self.arriving = False
        """Are pages of a listing coming in right now?"""
        self._next_listing = clock()
        self._next_relisting = clock()

    async def poll(self, wait: float = 0) -> bool:
        """Poll once: changes and the queue; False: there was nothing new.

        wait: seconds that the explorer may hold its answer back until something changes; a listing is not held back.
        Errors: ``ExplorerError``; the position is kept (P-15).
        """
        try:
            found_new = await self._poll(wait)
            if self._away:
                # It may have been restored, and not every way to do that shows in its ids.
                self._away = False
                self._next_listing = min(self._next_listing, self._clock() + self._after_away)
            return found_new
        except ExplorerError:
            self._interrupted = self._away = True
            raise
        finally:
            self.arriving = False

    async def _poll(self, wait: float) -> bool:
        before = self.desired.changes
        if not self._listing and self._clock() >= self._next_listing:
            self._begin_listing()
        for number in range(_MOST_PAGES):
            page_wait = wait if number == 0 and not self._listing else 0
            page = await self._client.poll(self._node_id, self._position, page_wait)
            self.arriving = self._listing
            highest = max((item.id for item in page.items if item.id < _HIGHEST_ID), default=-1)
            for item in page.items:
                if not self.desired.merge(item):
                    _log.warning("item skipped", id=item.id, reason=_unusable(item, self._node_id))
            # Not x-last-id: with queued items it moves past ids that were not delivered yet.
            if highest >= self._position:
                self._position = highest + 1
            elif page.items or not self._restored(page.last_id) or not self._list_again():
                break
        else:
            raise ExplorerUnavailable(f"the listing does not end after {_MOST_PAGES} pages")
        if self._listing:
            self.desired.end_listing()
            self._listing = False
            self._next_listing = min(self._next_listing, self._clock() + self._resync_interval)
            return True
        return self.desired.changes != before

    def _begin_listing(self) -> None:
        self.desired.begin_listing()
        self._listing, self._interrupted = True, False
        self._position = 0
        self._next_listing = math.inf

    def _restored(self, last_id: int) -> bool:
        """Whether the explorer seems to have been restored from a backup. last_id: of a page without items.

        Ids go back then, or forward by what a copy of our explorer skips. The first is also so when a page showed an id
        that was never given out, and what is new would not be seen.
        """
        known, self._last_id = self._last_id, last_id
        if last_id + 1 < self._position or last_id < known:
            return True
        return last_id >= max(known, self._position - 1) + _JUMP

    def _list_again(self) -> bool:
        """Begin another listing if it is due; False: it is not."""
        now = self._clock()
        if now < self._next_relisting or (self._listing and not self._interrupted):
            # The listing itself showed an id that was never given out; or it was not long ago.
            self._next_relisting = max(self._next_relisting, now + _RELIST_AFTER if self._listing else now)
            self._next_listing = min(self._next_listing, self._next_relisting)
            return False
        _log.warning("the explorer seems to have been restored, everything is listed again")
        self._next_relisting = now + _RELIST_AFTER
        self._begin_listing()
        return True

    async def ask_for(self, identifiers: Sequence[Gwid]) -> None:
        """Ask for reservations one by one that a complete listing did not show."""
        generation = self.desired.generation
        limit = asyncio.Semaphore(_AT_ONCE)

        async def ask(identifier: Gwid) -> None:
            async with limit:
                try:
                    workload = await self._client.node_workload(identifier)
                except ExplorerRefused as error:
                    if error.status == _NOT_FOUND:
                        self.desired.answer(identifier, None, generation)
                    return
                except ExplorerUnavailable as error:
                    _log.warning("reservation could not be asked for", id=identifier, reason=str(error))
                    return
            self.desired.answer(identifier, workload, generation)

        await asyncio.gather(*map(ask, _first(identifiers)))


def _first(identifiers: Iterable[Gwid]) -> list[Gwid]:
    return list(identifiers)[:_MOST_QUESTIONS]


def _unusable(item: object, node_id: NodeId) -> str:
    return item.reason if isinstance(item, Undecodable) else f"it is not for {node_id}"
