"""Wakes long polls when there is news about their node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Feed:
    """Events by node. Keeps nothing about nodes that nobody waits for and that have no queued items."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._delivered: set[str] = set()
        self._closed = False
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """The number of long polls."""
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
        """Notify long polls of a committed change of the node."""
        self._delivered.discard(node_id)
        for event in self._watchers.get(node_id, ()):
            event.set()

    def delivered(self, node_id: str) -> bool:
        """Whether the queued items were delivered since the last change: they are no news then."""
        return node_id in self._delivered

    def mark_delivered(self, node_id: str) -> None:
        """Note that the queued items of a node are about to be delivered."""
        self._delivered.add(node_id)

    def close(self) -> None:
        """End all long polls now, and later ones at once."""
        self._closed = True
        for events in self._watchers.values():
            for event in events:
                event.set()
