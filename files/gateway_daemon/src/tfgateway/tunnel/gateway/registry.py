"""The sessions of a worker by the secret of their client, and those with a secret that is not known yet (T-4).

Secrets are looked up by a keyed digest and compared in constant time, and are in no text or ``repr`` (T-13).
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field

from tfgateway.tunnel.digest import Digest
from tfgateway.tunnel.notices import Notice, encode_notice
from tfgateway.tunnel.session.session import Session
from tfgateway.tunnel.yamux.extensions import Extension


@dataclass(slots=True, eq=False)
class Client:
    """A session with a client that has sent its secret."""

    session: Session
    secret: bytes = field(repr=False)
    digest: Digest
    source: str
    """The client's IP literal."""
    since: int
    """When it registered, nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share: the newest wins."""
    registration: int
    """The stream on which it sent its secret."""
    extensions: int = 0
    """What it can do beyond the old protocol, bits of ``Extension``."""
    turn: int = 0
    """When it got a visitor last: the greatest is the newest."""
    sent_away: float = 0.0
    """When it was asked to connect again, to a worker that stays; the event loop's time. 0: it was not."""

    def notify(self, notice: Notice) -> None:
        """Send it what has become of it, when it can take that."""
        if self.extensions & Extension.NOTICES:
            said = encode_notice(notice)
            if self.session.room(self.registration) >= len(said):
                self.session.send(self.registration, said)

    def end(self, notice: Notice) -> None:
        """End the session, and send why."""
        self.notify(notice)
        self.session.close(notice.reason)


class Registry:
    """The sessions of this process."""

    def __init__(self, *, share: bool, max_early: int, max_clients: int) -> None:
        """share: clients with one secret stay beside each other and share its visitors, at most ``max_clients``.

        max_early: sessions that are held although their secret is unknown; the oldest goes when there are more.
        """
        self._share = share
        self._max_early = max_early
        self._max_clients = max_clients
        self._known: dict[Digest, bytes] = {}
        self._clients: dict[Digest, list[Client]] = {}
        self._early: OrderedDict[Client, None] = OrderedDict()
        self._turn = 0

    def __len__(self) -> int:
        """Sessions with a known secret."""
        return sum(map(len, self._clients.values()))

    @property
    def early(self) -> int:
        """Sessions with an unknown one."""
        return len(self._early)

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
        """Some service has this secret now; the clients that came too early, and can be registered now."""
        self._known[digest] = secret
        early = [client for client in self._early if hmac.compare_digest(client.secret, secret)]
        for client in early:
            del self._early[client]
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

    def add_early(self, client: Client) -> list[Client]:
        """Hold a client until its secret is known; those that have to end for it."""
        self._early[client] = None
        return [self._early.popitem(last=False)[0]] if len(self._early) > self._max_early else []

    def older_than(self, digest: Digest, since: int) -> list[Client]:
        """Another process has a client since then; the sessions here that have to end for it."""
        if self._share:
            return []
        return [client for client in self._clients.get(digest, []) if client.since < since]

    def sent_away_before(self, digest: Digest, since: int) -> list[Client]:
        """Another process has a client since then; the sessions here that it may have left when sent away."""
        return [client for client in self._clients.get(digest, []) if client.sent_away and client.since < since]

    def holds(self, client: Client) -> bool:
        """Whether it is registered here."""
        return client in self._clients.get(client.digest, [])

    def discard(self, client: Client) -> bool:
        """A session has ended; True when it was the last one registered with its secret."""
        self._early.pop(client, None)
        if not self.holds(client):
            return False
        clients = self._clients[client.digest]
        clients.remove(client)
        if clients:
            return False
        del self._clients[client.digest]
        return True

    def find(self, digest: Digest) -> Client | None:
        """The client that has the fewest visitors and takes one more, in turn among equals; None: there is none."""
        usable = [client for client in self._clients.get(digest, []) if client.session.may_open]
        found = min(usable, key=lambda client: (client.session.streams, client.turn), default=None)
        if found is not None:
            self._turn += 1
            found.turn = self._turn
        return found

    def refusal(self, digest: Digest) -> str:
        """Why no client here takes a visitor for now, so that nobody need wait; empty: one may, or there is none."""
        sessions = [client.session for client in self._clients.get(digest, []) if not client.session.gone]
        if not sessions or not all(session.full or session.silent for session in sessions):
            return ""
        return "it has as many visitors as it may have" if any(session.full for session in sessions) else "it is silent"

    def has(self, digest: Digest) -> bool:
        """Whether a client is registered here that may take visitors, now or when it has fewer."""
        return any(not client.session.gone for client in self._clients.get(digest, []))
