"""Who is waiting for news about which node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Feed:
    """Wakes long polls. Keeps nothing about nodes that nobody waits for and that have no queued items."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._delivered: set[str] = set()
        self._closed = False
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many polls watch now."""
        return self._waiting

    @contextmanager
    def watch(self, node_id: str) -> Iterator[asyncio.Event]:
        """An event that is set by every ``publish`` for the node while the context lasts."""
        event = asyncio.Event()
        if self._closed:
            event.set()
        self._watchers.setdefault(node_id, set()).add(event)
        self._waiting += 1
        try:
            yield event
        finally:
            self._waiting -= 1
            self._watchers[node_id].discard(event)
            if not self._watchers[node_id]:
                del self._watchers[node_id]

    def publish(self, node_id: str) -> None:
        """Something about the node has changed (and is committed)."""
        self._delivered.discard(node_id)
        for event in self._watchers.get(node_id, ()):
            event.set()

    def delivered(self, node_id: str) -> bool:
        """True when the node was given its queued items since the last change: they are no news."""
        return node_id in self._delivered

    def mark_delivered(self, node_id: str) -> None:
        """The node, which has queued items, is about to be given them."""
        self._delivered.add(node_id)

    def close(self) -> None:
        """Answer everybody now, and from now on at once."""
        self._closed = True
        for events in self._watchers.values():
            for event in events:
                event.set()
