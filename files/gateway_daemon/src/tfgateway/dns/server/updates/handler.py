"""Answers updates and what users have signed: keys from the reconciler, updates to it."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from structlog.typing import FilteringBoundLogger

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import Reply, Transport, respond, servfail
from tfgateway.dns.answer.updates import SignedUpdate, user_key, with_key, with_transfer
from tfgateway.dns.server.updates.link import ReconcilerLink
from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.query import Query, Unanswerable, read
from tfgateway.dns.zones.zones import Zones
from tfgateway.update_channel import (
    KeyAnswer,
    KeyQuestion,
    TransferAnswer,
    TransferQuestion,
    UpdateAnswer,
    UpdateQuestion,
)

_KNOWN_FOR: Final = 300.0
"""Seconds for which a key is kept. Whether its user still holds a name is asked with each update."""
_UNKNOWN_FOR: Final = 1.0
"""A new user is known soon."""
_MOST_KEYS: Final = 4096
_QUESTIONS: Final = 100.0
"""Keys a second that the reconciler is asked for: names of keys cost their sender nothing."""


class UpdateHandler:
    """Of one worker."""

    def __init__(
        self,
        zones: Zones,
        options: ServerOptions,
        link: ReconcilerLink,
        counts: QueryCounters,
        log: FilteringBoundLogger,
    ) -> None:
        self._zones = zones
        self._options = options
        self._link = link
        self._counts = counts
        self._log = log
        self._keys: dict[Name, tuple[bytes, float]] = {}
        """Name -> secret (empty: there is no such key), and until when that is known."""
        self._questions = _QUESTIONS
        self._asked = 0.0
        self._down = False

    async def answer(self, message: bytes, client: bytes, transport: Transport) -> Reply | None:
        """The reply, see ``respond``; SERVFAIL while the reconciler is away. Never raises."""
        try:
            return await self._answer(message, client, transport)
        except Unanswerable as error:
            self._counts.dropped(transport, error.reason)
            return None
        except OSError as error:
            self._note_down(error)
        except Exception as error:
            self._log.error("update not answered", message=message.hex(), reason=repr(error), exc_info=True)
        return servfail(message, self._options, transport, self._counts)

    async def _answer(self, message: bytes, client: bytes, transport: Transport) -> Reply | None:
        """Errors: ``OSError``, ``Unanswerable``."""
        query, options = read(message), self._options
        key = user_key(message, query)
        if key is not None and query.tsig_at is not None and (secret := await self._secret(key)):
            options = with_key(options, message, query.tsig_at, key, secret)
            if query.type == codes.AXFR and await self._may_transfer(key, query):
                options = with_transfer(options, key)
        now = int(time.time())
        if query.opcode != codes.OPCODE_UPDATE:
            return respond(message, client, now, self._zones, options, transport, self._counts)
        update = SignedUpdate(message, client, now, options, transport, self._counts)
        if (mac := update.mac) is None:
            return update.reply()
        if key is None:
            return update.reply(codes.REFUSED)  # the key of a secondary
        asked = partial(UpdateQuestion, key=_text(key), mac=mac, message=message)
        try:
            answer = await self._link.ask(asked)
        except OSError as error:
            self._note_down(error)
            return update.reply(codes.SERVFAIL)
        self._down = False
        return update.reply(answer.rcode if isinstance(answer, UpdateAnswer) else codes.SERVFAIL)

    def _note_down(self, error: OSError) -> None:
        """Say once that the reconciler is away."""
        if not self._down:
            self._log.warning("no DNS updates: the reconciler does not answer", reason=str(error))
        self._down = True

    async def _secret(self, name: Name) -> bytes:
        """The secret of a key; empty: there is none. Errors: ``OSError``."""
        now = time.monotonic()
        secret, until = self._keys.get(name, (b"", 0.0))
        if now < until:
            return secret
        self._questions = min(_QUESTIONS, self._questions + (now - self._asked) * _QUESTIONS)
        self._asked = now
        if self._questions < 1:
            raise ConnectionError("too many unknown keys")
        self._questions -= 1
        answer = await self._link.ask(partial(KeyQuestion, name=_text(name)))
        self._down = False
        if not isinstance(answer, KeyAnswer) or not answer.available:
            raise ConnectionError("the explorer does not say whose key this is")
        if len(self._keys) >= _MOST_KEYS:
            self._keys.clear()
        self._keys[name] = answer.secret, now + (_KNOWN_FOR if answer.secret else _UNKNOWN_FOR)
        return answer.secret

    async def _may_transfer(self, key: Name, query: Query) -> bool:
        """Errors: ``OSError``."""
        answer = await self._link.ask(partial(TransferQuestion, key=_text(key), zone=bytes(query.name)))
        return isinstance(answer, TransferAnswer) and answer.allowed


def _text(name: Name) -> str:
    return names.to_text(name).decode("ascii")
