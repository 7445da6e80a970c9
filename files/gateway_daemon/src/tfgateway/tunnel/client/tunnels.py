"""All tunnels of a client: what it keeps, and what changes when it is asked for other ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tfgateway.tunnel.client.follower import Follower
from tfgateway.tunnel.client.model import Changed, ConfiguredTunnel, RemoteStatus
from tfgateway.tunnel.yamux.windows import WindowBudget

_WINDOWS = 64 * 1024 * 1024
"""Bytes by which the receive windows of all sessions may exceed the initial one."""


class ClientTunnels:
    """To be used from one event loop."""

    def __init__(self, changed: Changed) -> None:
        """``changed`` is called with every new phase."""
        self.ended = asyncio.Event()
        """One has ended by itself (``ClientOptions.once``), or failed."""
        self._changed = changed
        self._budget = WindowBudget(_WINDOWS)
        self._followers: dict[tuple[object, ...], tuple[Follower, asyncio.Task[None]]] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def statuses(self) -> list[RemoteStatus]:
        """Of those that are kept."""
        return [follower.look() for follower, _ in self._followers.values()]

    def apply(self, tunnels: Sequence[ConfiguredTunnel]) -> None:
        """Keep these: new ones start, others take no more visitors, and none that is there is cut."""
        wanted = {tunnel.identity: tunnel for tunnel in tunnels}
        for identity in self._followers.keys() - wanted.keys():
            self._retire(*self._followers.pop(identity))
        kept = {}
        for identity, tunnel in wanted.items():
            if identity in self._followers:
                self._followers[identity][0].change(tunnel)
                kept[identity] = self._followers[identity]
            else:
                kept[identity] = self._start(tunnel)
        self._followers = kept

    async def close(self) -> None:
        """End everything. Errors: of one that failed."""
        tasks = [task for _, task in self._followers.values()] + list(self._retiring)
        failed = [task for task in tasks if task.done() and not task.cancelled() and task.exception() is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in failed:
            task.result()

    def _start(self, tunnel: ConfiguredTunnel) -> tuple[Follower, asyncio.Task[None]]:
        follower = Follower(tunnel, self._changed, self._budget)
        task = asyncio.create_task(follower.run())
        task.add_done_callback(self._done)
        return follower, task

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and any(task is kept for _, kept in self._followers.values()):
            self.ended.set()

    def _retire(self, follower: Follower, task: asyncio.Task[None]) -> None:
        async def retire() -> None:
            try:
                await follower.retire()
            finally:
                task.cancel()

        retiring = asyncio.create_task(retire())
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
