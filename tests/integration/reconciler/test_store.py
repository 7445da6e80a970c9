"""The way to redis, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tfgateway.errors import StoreError
from tfgateway.explorer.models import Subdomain
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.records import RecordDecoder
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction, seal
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.connection import connect

from tests.support.processes import RedisServer


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    client = connect(redis_server.url, timeout=30)
    yield Store(client)
    await client.aclose()


async def test_all_of_it_is_seen_and_nothing_else(store: Store, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.hset("gw1.example.", mapping={"www": b"\xff\x00", b"\xfe": b"2"})
        client.hset("zone", "gw1.example", "owner")
        client.set("/tcprouter/service/web.example", b"3")
        client.hset("unrelated", "x", "y")
        client.set("unrelated2", "x")
        client.set("string.", "not a zone")
        client.hset("/tcprouter/service/hash.example", "not", "a service")
        for number in range(1500):
            client.hset(f"z{number}.", "@", "{}")
    actual = await store.observe(RecordDecoder())
    assert actual.hashes["gw1.example."] == {"www": b"\xff\x00", "\udcfe": b"2"}
    assert actual.hashes["zone"] == {"gw1.example": b"owner"}
    assert actual.strings == {"/tcprouter/service/web.example": b"3"}
    assert len(actual.hashes) == 1502
    assert len(actual.problems) == 1
    assert actual.problems[0].startswith("string. is not a hash")


async def test_p25_a_transaction_is_written_whole(store: Store, redis_server: RedisServer) -> None:
    rows = Transaction(
        expected=(Row("h", "a", None), Row("s", None, None)),
        writes=(Row("h", "a", b"\x00\xff"), Row("h", "\udcfe", b"2"), Row("s", None, b"3")),
    )
    assert await store.apply([rows]) == [""]
    with redis_server.client() as client:
        assert client.hgetall("h") == {b"a": b"\x00\xff", b"\xfe": b"2"}
        assert client.get("s") == b"3"
    back = Transaction(
        expected=(Row("h", "a", b"\x00\xff"), Row("s", None, b"3")),
        writes=(Row("h", "a", None), Row("h", "\udcfe", None), Row("s", None, None)),
    )
    assert await store.apply([back]) == [""]
    with redis_server.client() as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize(
    "expected",
    [
        Row("h", "a", None),
        Row("h", "a", b"other"),
        Row("h", "b", b"1"),
        Row("s", None, None),
        Row("s", None, b"other"),
        Row("none", None, b"1"),
        Row("none", "a", b"1"),
    ],
)
async def test_what_was_changed_by_others_is_not_written_over(
    store: Store, redis_server: RedisServer, expected: Row
) -> None:
    with redis_server.client() as client:
        client.hset("h", "a", "1")
        client.set("s", "2")
        (refused,) = await store.apply([Transaction((expected,), (Row("h", "a", b"9"), Row("new", None, b"9")))])
        assert refused.startswith("changed by others in the meantime: ")
        assert client.hget("h", "a") == b"1"
        assert client.get("new") is None


async def test_p25_each_transaction_of_many_stands_for_itself(store: Store, redis_server: RedisServer) -> None:
    value = b"x" * 2000
    transactions = [
        Transaction((Row("h", "a", None),), (Row("h", "a", value),)),
        Transaction((Row("h", "a", None),), (Row("h", "b", b"1"),)),
        Transaction((Row("h", "a", seal(value)),), (Row("h", "c", b"1"),)),
        Transaction((Row("h", "a", seal(b"other")),), (Row("h", "d", b"1"),)),
        Transaction((Row("h", "none", seal(b"other")),), (Row("h", "e", b"1"),)),
    ]
    refused = await store.apply(transactions)
    assert [bool(text) for text in refused] == [False, True, False, True, True]
    with redis_server.client() as client:
        assert client.hgetall("h") == {b"a": value, b"c": b"1"}
        client.script_flush()
    assert await store.apply([Transaction((), (Row("h", "f", b"1"),))]) == [""]


async def test_what_fills_memory_is_read_in_pieces_and_kept_as_seals(store: Store, redis_server: RedisServer) -> None:
    node = Identity.from_seed(bytes(range(32))).node_id
    desired = Desired(node)
    desired.merge(
        Subdomain(
            id=1,
            workload_id=1,
            node_id=node,
            customer_tid=7,
            next_action=3,
            domain="a.gw1.example",
            ips=("203.0.113.5",),
        )
    )
    with redis_server.client() as client:
        client.hset("tfgateway_reservations", mapping={f"{number}-1": f"damaged {number}" for number in range(2500)})
        client.hset("tfgateway:outbox", mapping={f"result:{number}-1": f"answer {number}" for number in range(2500)})
    reader = RecordDecoder(desired)
    actual = await store.observe(reader)
    assert len(reader.records().damaged) == 2500
    assert actual.hashes["tfgateway_reservations"]["7-1"] == b"damaged 7"
    # Nothing of it is recorded, so that what waits may be needed.
    assert actual.hashes["tfgateway:outbox"]["result:7-1"] == b"answer 7"
    assert await store.recorded() == 2500


async def test_p25_a_row_of_the_wrong_type_fails_the_step_before_anything_is_written(
    store: Store, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.set("managed_domains", "oops")
        rows = (Row("gw1.example.", "www", None), Row("managed_domains", "www.gw1.example", None))
        (refused,) = await store.apply([Transaction(rows, tuple(Row(*row[:2], b"1") for row in rows))])
        assert "WRONGTYPE" in refused
        assert client.exists("gw1.example.") == 0


async def test_p25_a_full_redis_takes_all_or_nothing(store: Store, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.hset("h", "old", "1")
        client.config_set("maxmemory", "1")
        (refused,) = await store.apply(
            [Transaction((Row("h", "old", b"1"),), (Row("h", "new", b"2"), Row("h", "old", None)))]
        )
        assert "used memory > 'maxmemory'" in refused
        assert client.hgetall("h") == {b"old": b"1"}


async def test_a_key_of_ours_that_is_no_hash_is_a_store_error(store: Store, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set("tfgateway_reservations", "oops")
    with pytest.raises(StoreError, match="tfgateway_reservations is not a hash"):
        await store.observe(RecordDecoder())


async def test_a_redis_that_is_away_is_a_store_error(store: Store, redis_server: RedisServer) -> None:
    await store.observe(RecordDecoder())
    redis_server.stop()
    for call in (
        store.observe(RecordDecoder()),
        store.apply([Transaction((Row("h", "a", None),), (Row("h", "a", b"1"),))]),
        store.outbox_names(),
        store.outbox(["x"]),
        store.recorded(),
        store.take_from_outbox(["x"]),
        store.write_status(b"{}"),
    ):
        with pytest.raises(StoreError):
            await call
