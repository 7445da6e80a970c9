"""Answers updates and what users have signed: keys from the reconciler, updates to it."""

from __future__ import annotations

import time
from functools import partial
from typing import Final, TypeVar

from structlog.typing import FilteringBoundLogger

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import Reply, Transport, respond, servfail
from tfgateway.dns.answer.updates import SignedUpdate, is_signed, user_key, with_key, with_transfer
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
_QUESTIONS: Final = 50.0
"""Keys a second that the reconciler is asked for, over each transport: names of keys cost their sender nothing."""

_T = TypeVar("_T")


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
        """Name -> secret, and until when that is known."""
        self._unknown: dict[Name, float] = {}
        """Name of what is no key -> until when that is known."""
        self._budgets: dict[Transport, tuple[float, float]] = {"udp": (_QUESTIONS, 0.0), "tcp": (_QUESTIONS, 0.0)}
        """Questions for keys that are left, and when that was; senders over UDP may have any address."""
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
            self._log.error("update not answered", bytes=len(message), reason=repr(error), exc_info=True)
        return servfail(message, self._options, transport, self._counts)

    async def _answer(self, message: bytes, client: bytes, transport: Transport) -> Reply | None:
        """Errors: ``OSError``, ``Unanswerable``."""
        query, options, now = read(message), self._options, int(time.time())
        key = user_key(message, query)
        if key is not None and query.tsig_at is not None and (secret := await self._secret(key, transport)):
            options = with_key(options, message, query.tsig_at, key, secret)
            copies = query.type == codes.AXFR and query.opcode == codes.OPCODE_QUERY and transport == "tcp"
            if copies and is_signed(options, message, query.tsig_at, now) and await self._may_transfer(key, query):
                options = with_transfer(options, key)
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

    async def _secret(self, name: Name, transport: Transport) -> bytes:
        """The secret of a key; empty: there is none. Errors: ``OSError``."""
        now = time.monotonic()
        secret, until = self._keys.get(name, (b"", 0.0))
        if now < until:
            return secret
        if not secret and now < self._unknown.get(name, 0.0):
            return b""
        try:
            answer = await self._ask_for_key(name, transport, now)
        except OSError:
            if secret:
                return secret  # what was true a while ago; the reconciler decides anyway
            raise
        if answer.secret:
            _put(self._keys, name, (answer.secret, now + _KNOWN_FOR))
        else:
            self._keys.pop(name, None)
            _put(self._unknown, name, now + _UNKNOWN_FOR)
        return answer.secret

    async def _ask_for_key(self, name: Name, transport: Transport, now: float) -> KeyAnswer:
        """Errors: ``OSError``."""
        left, asked = self._budgets[transport]
        left = min(_QUESTIONS, left + (now - asked) * _QUESTIONS)
        if left < 1:
            raise ConnectionError("too many keys that are not known are asked for")
        self._budgets[transport] = left - 1, now
        answer = await self._link.ask(partial(KeyQuestion, name=_text(name)))
        self._down = False
        if not isinstance(answer, KeyAnswer) or not answer.available:
            raise ConnectionError("the explorer does not say whose key this is")
        return answer

    async def _may_transfer(self, key: Name, query: Query) -> bool:
        """Errors: ``OSError``."""
        answer = await self._link.ask(partial(TransferQuestion, key=_text(key), zone=bytes(query.name)))
        return isinstance(answer, TransferAnswer) and answer.allowed


def _put(kept: dict[Name, _T], name: Name, value: _T) -> None:
    """Keep a value, instead of the oldest when there are too many."""
    kept.pop(name, None)
    if len(kept) >= _MOST_KEYS:
        del kept[next(iter(kept))]
    kept[name] = value


def _text(name: Name) -> str:
    return names.to_text(name).decode("ascii")
