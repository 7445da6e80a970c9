"""Our reading of a glob against redis' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tfgateway.mirror import Selection

from tests.support.processes import RedisServer

# Few letters, so that globs and keys often meet. No empty key: redis finds it with "*" but not with "**". Our globs are
# ASCII: beyond it the order of a range in redis is that of the machine's char, signed or not.
_globs = st.lists(st.sampled_from(list(b"ab-^[]\\*?.\x00\x7f")), max_size=10).map(bytes)
_keys = st.lists(st.sampled_from(list(b"ab-^[]\\*.\x00\xff")), min_size=1, max_size=5).map(bytes)


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client


@settings(
    max_examples=4 * settings.default.max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(glob=_globs, keys=st.lists(_keys, max_size=8, unique=True))
@example(glob=b"[a-]]", keys=[b"a", b"]", b"-", b"b]"])
@example(glob=b"[\\a-b]", keys=[b"a", b"-", b"b"])
@example(glob=b"[^", keys=[b"^", b"a"])
@example(glob=b"a\\", keys=[b"a\\", b"a"])
def test_a_glob_selects_the_keys_that_redis_finds_with_it(client: redis.Redis, glob: bytes, keys: list[bytes]) -> None:
    client.flushall()
    for key in keys:
        client.set(key, "x")
    selection = Selection(glob)
    assert {key for key in keys if selection.wants(key)} == set(client.scan_iter(match=glob))
    assert all(key.startswith(selection.prefixes) for key in client.scan_iter(match=glob))
