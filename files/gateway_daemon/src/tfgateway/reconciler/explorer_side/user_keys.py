"""Public keys of users, from the explorer's user directory; each is requested once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tfgateway.errors import ExplorerRefused, ExplorerUnavailable
from tfgateway.explorer.client import ExplorerClient
from tfgateway.identity.keys import PUBLIC_KEY_SIZE
from tfgateway.ids import Tid
from tfgateway.reconciler.planning.claims import UserKeys
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")

_MOST_QUESTIONS = 2000
"""Users that are asked for in one pass."""
_AT_ONCE = 8
_NOT_FOUND = 404


class UserKeyCache:
    """Public keys of users by tid; a key never changes."""

    def __init__(self, client: ExplorerClient) -> None:
        self._client = client
        self._known: dict[Tid, bytes | None] = {}

    @property
    def known(self) -> UserKeys:
        return self._known

    async def ask(self, tids: Iterable[Tid]) -> UserKeys:
        """The known keys, and None for those of these users that the explorer does not know (not cached).

        Whose key cannot be had now is left out (P-3).
        """
        limit = asyncio.Semaphore(_AT_ONCE)
        away = asyncio.Event()
        absent: dict[Tid, bytes | None] = {}

        async def ask(tid: Tid) -> None:
            async with limit:
                if away.is_set():
                    return
                try:
                    key = _key((await self._client.user(int(tid))).pubkey)
                except ValueError:
                    key = None
                except ExplorerRefused as error:
                    if error.status != _NOT_FOUND:
                        _log.warning("public key not available", user=tid, reason=str(error))
                        return
                    key = None
                except ExplorerUnavailable as error:
                    _log.warning("public key not available", user=tid, reason=str(error))
                    away.set()
                    return
            (self._known if key is not None else absent)[tid] = key

        await asyncio.gather(*(ask(tid) for tid in list(tids)[:_MOST_QUESTIONS]))
        return {**self._known, **absent}


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != PUBLIC_KEY_SIZE:
        raise ValueError("not an ed25519 public key")
    return key
