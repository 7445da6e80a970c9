"""The reconciler's access to redis: read all of it, apply transactions, keep outbox and status."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tfgateway.errors import SchemaError, StoreError
from tfgateway.ids import Gwid
from tfgateway.reconciler.planning.inputs.guard import CountSample, decode_samples
from tfgateway.reconciler.planning.inputs.records import RecordDecoder
from tfgateway.reconciler.planning.inputs.rows import Actual, Row, Seal, Transaction
from tfgateway.redis_schema.connection import marker_text, store_errors
from tfgateway.redis_schema.keys import (
    CONSENT,
    FENCE,
    LEASE,
    LOCATION,
    MANAGED_DOMAINS,
    OUTBOX,
    PEERS,
    PROOFS,
    QUARANTINE,
    RELEASED,
    RELEASED_RESERVATIONS,
    RESERVATIONS,
    SAMPLES,
    STATUS,
    TUNNELS_PREFIX,
    WAITING,
    ZONE_OWNERS,
    domain_of_service_key,
    zone_of_key,
)
from tfgateway.redis_schema.marker import RAISER
from tfgateway.redis_schema.tunnels import Connected, decode_tunnels
from tfgateway.redis_schema.zone_changes import PUBLISHER
from tfgateway.telemetry.text import printable

_OWN_HASHES = (OUTBOX, RESERVATIONS, ZONE_OWNERS, MANAGED_DOMAINS, PEERS, QUARANTINE, WAITING, PROOFS)
_BATCH = 500
_FIELDS_AT_ONCE = 1000
_PERSISTENCE = {"aof_last_write_status": "append-only file", "rdb_last_bgsave_status": "snapshot"}
"""Members of INFO that say why redis answers MISCONF, and what it failed to write."""

# All comparisons come before the first write, so that a row of the wrong type fails the step and changes nothing.
# A script, because MULTI alone can not compare and WATCH would cost a round trip for every row.
_APPLY = (
    PUBLISHER
    + RAISER
    + """
local expected = tonumber(ARGV[1]) * 4 + 1
for at = 2, #ARGV, 4 do
  local key, kind, field, value = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local hash, present = string.sub(kind, 1, 1) == 'h', string.sub(kind, 2, 2) ~= '-'
  if at <= expected then
    local found
    if hash then found = redis.call('HGET', key, field) else found = redis.call('GET', key) end
    if found and string.sub(kind, 2, 2) == '#' then found = redis.sha1hex(found) end
    if found ~= (present and value) then return key .. ' ' .. field end
  elseif hash then
    if present then
      redis.call('HSET', key, field, value)
      wrote(key, field, value)
    else
      redis.call('HDEL', key, field)
      removed(key, field)
    end
  elseif present then
    redis.call('SET', key, value)
  else
    redis.call('DEL', key)
  end
end
publish(raised())
return ''
"""
)
_LOST = (f"{LEASE} ".encode(), f"{FENCE} ".encode())
"""What the script answers when the lease is not ours any more."""
_APPLY_SHA = hashlib.sha1(_APPLY.encode(), usedforsecurity=False).hexdigest()


class Store:
    """Access to redis. Every call raises ``StoreError`` when redis does not answer, and nothing else."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def observe(self, reader: RecordDecoder) -> Actual:
        """Read all that concerns the reconciler. Not atomic: ``apply`` checks whether it still holds.

        reader: takes outbox and records in; see ``RecordDecoder.take`` for what is kept of them.
        """
        hashes: dict[str, dict[str, bytes]] = {}
        strings: dict[str, bytes] = {}
        problems: list[str] = []
        with store_errors():
            zones, services = await self._keys()
            for batch in _batches([name.encode() for name in _OWN_HASHES] + zones):
                for key, beginning in zip(batch, await self._beginnings(batch), strict=True):
                    name, fields = _text(key), {}
                    try:
                        async for field, value in self._fields(key, beginning):
                            text = _text(field)
                            fields[text] = reader.take(name, text, value)
                    except ResponseError as error:
                        if name in _OWN_HASHES:
                            raise StoreError(f"redis: {name} is not a hash") from error
                        problems.append(f"{printable(key)} is not a hash: {printable(error)}")
                    if fields:
                        hashes[name] = fields
            needed = reader.unsealed()
            for batch in _batches([_bytes(name) for name in needed]):
                answers: list[Any] = await self._redis.hmget(OUTBOX, batch)
                for field, answer in zip(batch, answers, strict=True):
                    if answer is None:  # delivered by now
                        del hashes[OUTBOX][_text(field)]
                    else:
                        hashes[OUTBOX][_text(field)] = answer
            for batch in _batches(services):
                found: list[Any] = await self._redis.mget(batch)
                for key, string in zip(batch, found, strict=True):
                    if string is not None:
                        strings[_text(key)] = string
        return Actual(hashes, strings, tuple(problems))

    async def tunnels(self) -> dict[str, Connected] | None:
        """Clients that the proxy's workers have, by fingerprint of their secret; None: no worker has published any."""
        with store_errors():
            keys = [key async for key in self._redis.scan_iter(match=TUNNELS_PREFIX + "*", count=_FIELDS_AT_ONCE)]
            published: list[Any] = await self._redis.mget(keys) if keys else []
        found: dict[str, Connected] | None = None
        for raw in published:
            with contextlib.suppress(SchemaError):
                found = (found or {}) | (decode_tunnels(raw) if raw is not None else {})
        return found

    async def apply(self, transactions: Sequence[Transaction], lease: Sequence[Row] = ()) -> list[str]:
        """Apply transactions, each atomically; for each the reason why it was not applied, or an empty text.

        lease: the rows that say that we may write. Errors: ``StoreError`` too when they are not in redis any more.
        """
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.script_load(_APPLY)
                for transaction in transactions:
                    keys, arguments = _arguments(transaction, lease)
                    pipe.evalsha(_APPLY_SHA, len(keys), *keys, *arguments)
                replies: list[Any] = (await pipe.execute(raise_on_error=False))[1:]
            found = []
            for differs in replies:
                if isinstance(differs, ResponseError):
                    found.append(f"redis refused: {printable(differs)}")
                elif isinstance(differs, Exception):
                    raise differs
                elif differs in _LOST:
                    raise StoreError("the lease was lost while a pass went on")
                else:
                    found.append(f"changed by others in the meantime: {printable(differs)}" if differs else "")
        return found

    async def fields(self, key: str, names: Sequence[str]) -> dict[str, bytes]:
        """These fields of a hash, as far as they exist."""
        if not names:
            return {}
        with store_errors():
            try:
                found: list[Any] = await self._redis.hmget(_bytes(key), [_bytes(name) for name in names])
            except ResponseError as error:
                raise StoreError(f"redis: {printable(key)} is not a hash") from error
        return {name: value for name, value in zip(names, found, strict=True) if value is not None}

    async def marker(self) -> bytes:
        """See ``redis_schema.connection.marker_text``."""
        return await marker_text(self._redis)

    async def recorded(self) -> int:
        """The number of recorded reservations."""
        with store_errors():
            try:
                return int(await self._redis.hlen(RESERVATIONS))
            except ResponseError as error:
                raise StoreError(f"redis: {RESERVATIONS} is not a hash") from error

    async def outbox_names(self) -> list[str]:
        """The fields of the outbox."""
        with store_errors():
            found: list[Any] = await self._redis.hkeys(OUTBOX)
        return [_text(name) for name in found]

    async def outbox(self, names: Sequence[str]) -> dict[str, bytes]:
        """These fields of the outbox, as far as they still exist."""
        return await self.fields(OUTBOX, names)

    async def outbox_length(self) -> int:
        with store_errors():
            return int(await self._redis.hlen(OUTBOX))

    async def take_from_outbox(self, fields: Sequence[str]) -> None:
        """Remove entries that the explorer has acknowledged."""
        with store_errors():
            await self._redis.hdel(OUTBOX, *[_bytes(name) for name in fields])

    async def status(self) -> bytes | None:
        """The status that the loop wrote last."""
        with store_errors():
            found: Any = await self._redis.get(STATUS)
        return None if found is None else bytes(found)

    async def write_status(self, raw: bytes) -> None:
        with store_errors():
            await self._redis.set(STATUS, raw)

    async def disk_trouble(self) -> str:
        """Why redis takes no writes although it answers; empty: it takes them, or does not say."""
        with store_errors():
            try:
                found: Any = await self._redis.info("persistence")
            except ResponseError:
                return ""
        broken = [what for name, what in _PERSISTENCE.items() if found.get(name, "ok") != "ok"]
        return f"redis takes no writes: it could not write its {broken[0]}: is its disk full?" if broken else ""

    async def consent(self) -> str:
        """Digest of the removals that an operator allowed; empty: none."""
        with store_errors():
            found: Any = await self._redis.get(CONSENT)
        return "" if found is None else _text(found)

    async def give_consent(self, digest: str, seconds: int) -> None:
        """Allow the removals of this digest for a while."""
        with store_errors():
            await self._redis.set(CONSENT, digest, ex=seconds)

    async def released(self) -> frozenset[str]:
        """Domains whose claims an operator gave up, for the next pass."""
        with store_errors():
            found: Any = await self._redis.smembers(RELEASED)
        return frozenset(map(_text, found))

    async def release(self, domains: Iterable[str], seconds: int) -> None:
        """Ask the next pass to release these domains; the request expires after ``seconds``."""
        with store_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.sadd(RELEASED, *sorted(domains))
                pipe.expire(RELEASED, seconds)
                await pipe.execute()

    async def take_released(self, domains: Iterable[str]) -> None:
        """Remove releases of domains that a pass has handled."""
        with store_errors():
            await self._redis.srem(RELEASED, *sorted(domains))

    async def released_reservations(self) -> dict[Gwid, str]:
        """Reservations that an operator ends with the next pass, and why."""
        with store_errors():
            found: Any = await self._redis.hgetall(RELEASED_RESERVATIONS)
        return {Gwid(_text(name)): _text(reason) for name, reason in found.items()}

    async def release_reservations(self, reasons: Mapping[Gwid, str], seconds: int) -> None:
        """Ask the next pass to end these; the request expires after ``seconds``."""
        with store_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(RELEASED_RESERVATIONS, mapping={name: _bytes(reason) for name, reason in reasons.items()})
                pipe.expire(RELEASED_RESERVATIONS, seconds)
                await pipe.execute()

    async def take_released_reservations(self, identifiers: Iterable[Gwid]) -> None:
        """Remove releases of reservations that a pass has handled."""
        with store_errors():
            await self._redis.hdel(RELEASED_RESERVATIONS, *sorted(identifiers))

    async def samples(self) -> tuple[CountSample, ...]:
        """The samples of the number of recorded reservations."""
        with store_errors():
            found: Any = await self._redis.get(SAMPLES)
        return decode_samples(found)

    async def write_samples(self, samples: tuple[CountSample, ...]) -> None:
        with store_errors():
            await self._redis.set(SAMPLES, msgspec.json.encode(samples))

    async def location(self) -> bytes | None:
        """The location that ``write_location`` wrote."""
        with store_errors():
            found: Any = await self._redis.get(LOCATION)
        return None if found is None else bytes(found)

    async def write_location(self, raw: bytes) -> None:
        with store_errors():
            await self._redis.set(LOCATION, raw)

    async def _keys(self) -> tuple[list[bytes], list[bytes]]:
        """Keys that name zones, and keys that name services; a scan may show a key twice."""
        zones: dict[bytes, None] = {}
        services: dict[bytes, None] = {}
        async for key in self._redis.scan_iter(count=_BATCH):
            if zone_of_key(key) is not None:
                zones[key] = None
            elif domain_of_service_key(key) is not None:
                services[key] = None
        return list(zones), list(services)

    async def _beginnings(self, keys: Sequence[bytes]) -> list[Any]:
        """What HSCAN first answers for each key: most hashes whole, of big ones a bounded part; an error is a value."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hscan(key, count=_FIELDS_AT_ONCE)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                raise reply
        return replies

    async def _fields(self, key: bytes, beginning: Any) -> AsyncIterator[tuple[bytes, bytes]]:
        """All fields of a hash; one that moves meanwhile may come twice. Errors: ``ResponseError``: it is no hash."""
        if isinstance(beginning, ResponseError):
            raise beginning
        cursor, fields = beginning
        while True:
            for item in fields.items():
                yield item
            if not cursor:
                return
            reply: Any = await self._redis.hscan(key, cursor, count=_FIELDS_AT_ONCE)
            cursor, fields = reply


def _arguments(transaction: Transaction, lease: Sequence[Row]) -> tuple[list[bytes], list[bytes | str]]:
    """KEYS and ARGV for the script."""
    expected = [*lease, *transaction.expected]
    rows = [*expected, *transaction.writes]
    keys = list(dict.fromkeys(row.key for row in rows))
    position = {key: str(number) for number, key in enumerate(keys, start=1)}
    arguments: list[bytes | str] = [str(len(expected))]
    for row in rows:
        value = row.value.hex() if isinstance(row.value, Seal) else row.value or b""
        arguments += [position[row.key], _kind(row), _bytes(row.field or ""), value]
    return [_bytes(key) for key in keys], arguments


def _batches(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH))


def _kind(row: Row) -> str:
    known = "-" if row.value is None else "#" if isinstance(row.value, Seal) else "+"
    return ("s" if row.field is None else "h") + known


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
