"""Long polls that wait for a change of their node, and how many may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tfgateway.fair_shares import FairShares, Source


class LongPolls:
    """Events by node. Keeps nothing about nodes that nobody waits for and that have no queued items.

    max_waiting: polls that wait at one time. ended: called for each that is answered early, so that another can wait.
    """

    def __init__(self, max_waiting: int, ended: Callable[[], None]) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._delivered: set[str] = set()
        self._closed = False
        self._waiting = FairShares[asyncio.Event](max_waiting)
        self._ended = ended

    @property
    def closed(self) -> bool:
        """Whether nobody may wait any more."""
        return self._closed

    @property
    def waiting(self) -> int:
        """The number of long polls that wait."""
        return self._waiting.total

    @contextmanager
    def watch(self, node_id: str) -> Iterator[asyncio.Event]:
        """An event that is set by every ``publish`` for the node while the context lasts."""
        event = asyncio.Event()
        if self._closed:
            event.set()
        self._watchers.setdefault(node_id, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[node_id].discard(event)
            if not self._watchers[node_id]:
                del self._watchers[node_id]

    @contextmanager
    def may_wait(self, changed: asyncio.Event, client: Source) -> Iterator[bool]:
        """Whether a poll that waits for this event may do so while the context lasts.

        When too many wait, one of the client that has most of them is answered: this one, or its event is set.
        """
        self._waiting.add(changed, [client], 1)
        if self._waiting.total > self._waiting.limit and self._waiting.has_most([client]):
            self._waiting.remove(changed)
            self._ended()
            yield False
            return
        for other in self._waiting.evict():
            self._ended()
            other.set()
        try:
            yield True
        finally:
            self._waiting.remove(changed)

    def publish(self, node_id: str) -> None:
        """Notify long polls of a committed change of the node."""
        self._delivered.discard(node_id)
        for event in self._watchers.get(node_id, ()):
            event.set()

    def publish_all(self) -> None:
        """As ``publish``, for all nodes: a change of any of them may have got lost."""
        self._delivered.clear()
        for events in self._watchers.values():
            for event in events:
                event.set()

    def delivered(self, node_id: str) -> bool:
        """Whether the queued items were delivered since the last change: they are not new then."""
        return node_id in self._delivered

    def mark_delivered(self, node_id: str) -> None:
        """Note that the queued items of a node are about to be delivered."""
        self._delivered.add(node_id)

    def close(self) -> None:
        """End all long polls now, and later ones at once."""
        self._closed = True
        self.publish_all()
