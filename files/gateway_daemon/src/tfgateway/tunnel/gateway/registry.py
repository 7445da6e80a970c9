"""Which sessions there are, by the secret of their client; and those whose secret nobody knows yet (T-4).

Secrets are looked up by a keyed digest and compared in constant time, and are in no text or ``repr`` (T-13).
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field

from tfgateway.tunnel.digest import Digest
from tfgateway.tunnel.session.session import Session


@dataclass(slots=True, eq=False)
class Client:
    """A session whose client has said its secret."""

    session: Session
    secret: bytes = field(repr=False)
    digest: Digest
    source: str
    """The client's IP literal."""
    since: int
    """When it registered, nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share: the newest wins."""
    greeting: int
    """The stream on which it said its secret."""
    told: float = 0.0
    """When it was told to connect again, to a worker that stays; the event loop's time."""


class Registry:
    """The sessions of this process."""

    def __init__(self, *, share: bool, max_strangers: int, max_clients: int) -> None:
        """share: clients with one secret stay beside each other and share its visitors, at most ``max_clients``.

        max_strangers: sessions that are held although their secret is unknown; the oldest goes when there are more.
        """
        self._share = share
        self._max_strangers = max_strangers
        self._max_clients = max_clients
        self._known: dict[Digest, bytes] = {}
        self._clients: dict[Digest, list[Client]] = {}
        self._strangers: OrderedDict[Client, None] = OrderedDict()

    def __len__(self) -> int:
        """Sessions with a known secret."""
        return sum(map(len, self._clients.values()))

    @property
    def strangers(self) -> int:
        """Sessions with an unknown one."""
        return len(self._strangers)

    @property
    def digests(self) -> dict[Digest, int]:
        """Known secrets with a session, and when its newest client registered."""
        return {digest: max(client.since for client in clients) for digest, clients in self._clients.items()}

    def registered(self) -> list[Client]:
        """Every session with a known secret."""
        return [client for clients in self._clients.values() for client in clients]

    def knows(self, digest: Digest, secret: bytes) -> bool:
        """Whether some service has this secret."""
        return hmac.compare_digest(self._known.get(digest, b""), secret)

    def add_secret(self, digest: Digest, secret: bytes) -> list[Client]:
        """Some service has this secret now; the strangers who came too early and are registered now."""
        self._known[digest] = secret
        early = [client for client in self._strangers if hmac.compare_digest(client.secret, secret)]
        for client in early:
            del self._strangers[client]
        return early

    def remove_secret(self, digest: Digest) -> list[Client]:
        """No service has this secret any more; the sessions that have to end."""
        self._known.pop(digest, None)
        return self._clients.pop(digest, [])

    def add(self, client: Client) -> list[Client]:
        """Register a client with a known secret; the sessions that have to end for it, oldest first."""
        there = self._clients.setdefault(client.digest, [])
        there.append(client)
        there.sort(key=lambda one: one.since)
        keep = self._max_clients if self._share else 1
        replaced, self._clients[client.digest] = there[:-keep], there[-keep:]
        return replaced

    def add_stranger(self, client: Client) -> list[Client]:
        """Hold a client until its secret is known; those that have to end for it."""
        self._strangers[client] = None
        return [self._strangers.popitem(last=False)[0]] if len(self._strangers) > self._max_strangers else []

    def older_than(self, digest: Digest, since: int) -> list[Client]:
        """Another process has a client since then; the sessions here that have to end for it."""
        if self._share:
            return []
        return [client for client in self._clients.get(digest, []) if client.since < since]

    def told_before(self, digest: Digest, since: int) -> list[Client]:
        """Another process has a client since then; the sessions here whose client it may be, as it was told to go."""
        return [client for client in self._clients.get(digest, []) if client.told and client.since < since]

    def holds(self, client: Client) -> bool:
        """Whether it is registered here."""
        return client in self._clients.get(client.digest, [])

    def discard(self, client: Client) -> bool:
        """A session has ended; True when it was the last one registered with its secret."""
        self._strangers.pop(client, None)
        if not self.holds(client):
            return False
        clients = self._clients[client.digest]
        clients.remove(client)
        if clients:
            return False
        del self._clients[client.digest]
        return True

    def find(self, digest: Digest) -> Client | None:
        """The client that has the fewest visitors and takes one more; None: there is none."""
        usable = [client for client in self._clients.get(digest, []) if client.session.may_open]
        return min(usable, key=lambda client: client.session.streams, default=None)

    def has(self, digest: Digest) -> bool:
        """Whether a client is registered here that may take visitors, now or when it has fewer."""
        return any(not client.session.gone for client in self._clients.get(digest, []))
