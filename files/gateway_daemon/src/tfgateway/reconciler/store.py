"""Redis for the reconciler: look at all of it, apply one transaction, keep outbox and status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tfgateway.errors import StoreError
from tfgateway.layout.connection import store_errors
from tfgateway.layout.keys import (
    CONSENT,
    LEASE,
    LOCATION,
    MANAGED_DOMAINS,
    OUTBOX,
    PEERS,
    QUARANTINE,
    RESERVATIONS,
    STATUS,
    ZONE_OWNERS,
    domain_of_service_key,
    zone_of_key,
)
from tfgateway.reconciler.rows import Actual, Row, Transaction
from tfgateway.telemetry.text import printable

_OWN_HASHES = (RESERVATIONS, ZONE_OWNERS, MANAGED_DOMAINS, PEERS, OUTBOX, QUARANTINE)
_BATCH = 500

# All comparisons come before the first write, so that a row of the wrong type fails the step and changes nothing.
# A script, because MULTI alone can not compare and WATCH would cost a round trip for every row.
_APPLY = """
local expected = tonumber(ARGV[1]) * 4 + 1
for at = 2, #ARGV, 4 do
  local key, kind, field, value = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local hash, present = string.sub(kind, 1, 1) == 'h', string.sub(kind, 2, 2) == '+'
  if at <= expected then
    local found
    if hash then found = redis.call('HGET', key, field) else found = redis.call('GET', key) end
    if found ~= (present and value) then return key .. ' ' .. field end
  elseif hash then
    if present then redis.call('HSET', key, field, value) else redis.call('HDEL', key, field) end
  elseif present then
    redis.call('SET', key, value)
  else
    redis.call('DEL', key)
  end
end
return ''
"""


class Store:
    """Every call raises ``StoreError`` when redis cannot be asked, and nothing else."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._apply = redis.register_script(_APPLY)

    async def observe(self) -> Actual:
        """All that concerns the reconciler. Not one moment: ``apply`` finds out whether it still holds."""
        hashes: dict[str, dict[str, bytes]] = {}
        strings: dict[str, bytes] = {}
        problems: list[str] = []
        with store_errors():
            zones, services = await self._keys()
            for batch in _batches([name.encode() for name in _OWN_HASHES] + zones):
                for key, found in zip(batch, await self._each("HGETALL", batch), strict=True):
                    if isinstance(found, ResponseError):
                        problems.append(f"{printable(key)} is not a hash: {printable(found)}")
                    elif found:
                        hashes[_text(key)] = {_text(name): value for name, value in found.items()}
            for batch in _batches(services):
                values: list[Any] = await self._redis.mget(batch)
                for key, value in zip(batch, values, strict=True):
                    if value is not None:
                        strings[_text(key)] = value
        for name in _OWN_HASHES:
            if any(text.startswith(f"{name} is not a hash") for text in problems):
                raise StoreError(f"redis: {name} is not a hash")
        return Actual(hashes, strings, tuple(problems))

    async def apply(self, transaction: Transaction, lease: Row | None = None) -> str:
        """Write at once, or say why nothing was written; empty: done.

        lease: the row that says that we may write. Errors: ``StoreError`` too when it is not in redis any more.
        """
        expected = [*([lease] if lease is not None else []), *transaction.expected]
        rows = [*expected, *transaction.writes]
        keys = list(dict.fromkeys(row.key for row in rows))
        position = {key: str(number) for number, key in enumerate(keys, start=1)}
        arguments: list[bytes | str] = [str(len(expected))]
        for row in rows:
            arguments += [position[row.key], _kind(row), _bytes(row.field or ""), row.value or b""]
        with store_errors():
            try:
                differs = await self._apply(keys=[_bytes(key) for key in keys], args=arguments)
            except ResponseError as error:
                return f"redis refused: {printable(error)}"
        if differs == f"{LEASE} ".encode():
            raise StoreError("the lease was lost while a pass went on")
        return f"changed by others in the meantime: {printable(differs)}" if differs else ""

    async def outbox(self) -> dict[str, bytes]:
        """Everything that waits for the explorer."""
        with store_errors():
            found: dict[Any, Any] = await self._redis.hgetall(OUTBOX)
        return {_text(name): value for name, value in found.items()}

    async def outbox_length(self) -> int:
        with store_errors():
            return int(await self._redis.hlen(OUTBOX))

    async def take_from_outbox(self, fields: Sequence[str]) -> None:
        """The explorer has acknowledged these."""
        with store_errors():
            await self._redis.hdel(OUTBOX, *[_bytes(name) for name in fields])

    async def status(self) -> bytes | None:
        """What the loop wrote last."""
        with store_errors():
            found: Any = await self._redis.get(STATUS)
        return None if found is None else bytes(found)

    async def write_status(self, raw: bytes) -> None:
        with store_errors():
            await self._redis.set(STATUS, raw)

    async def consent(self) -> str:
        """Digest of the removals that an operator allowed; empty: none."""
        with store_errors():
            found: Any = await self._redis.get(CONSENT)
        return "" if found is None else _text(found)

    async def give_consent(self, digest: str, seconds: int) -> None:
        """Allow the removals of this digest for a while."""
        with store_errors():
            await self._redis.set(CONSENT, digest, ex=seconds)

    async def location(self) -> bytes | None:
        """What ``write_location`` kept."""
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

    async def _each(self, command: str, keys: Sequence[bytes]) -> list[Any]:
        """One reply a key; an error reply is its value."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command(command, key)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                raise reply
        return replies


def _batches(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH))


def _kind(row: Row) -> str:
    return ("s" if row.field is None else "h") + ("-" if row.value is None else "+")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
