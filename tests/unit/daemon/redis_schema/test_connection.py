"""Urls and options; what really happens on a connection is in tests/integration/test_redis_connection.py."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ConfigError, StoreError
from tfgateway.redis_schema.connection import connect, store_errors


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "unknown scheme ''"),
        ("127.0.0.1:6379", "unknown scheme|not a URL"),
        ("http://127.0.0.1", "unknown scheme 'http': tcp, unix, redis or rediss"),
        ("redis://127.0.0.1:65536", "not a URL"),
        ("redis://s3cr3t:pa/ss@host", "not a URL"),
        ("tcp://[::1", "not a URL"),
        ("unix://", "needs the path of a socket"),
        ("redis://127.0.0.1?socket_timeout=s3cr3t", "not a URL"),
        ("redis://127.0.0.1?decode_responses=yes", "unknown option 'decode_responses'"),
    ],
)
def test_a_wrong_url_is_a_config_error_that_does_not_repeat_it(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        connect(url, timeout=1)
    assert "s3cr3t" not in str(caught.value)
    assert str(caught.value).startswith("redis.url: ")


@given(st.text(max_size=40) | st.text(max_size=40).map(lambda rest: f"redis://{rest}"))
def test_any_url_is_a_client_or_a_config_error(url: str) -> None:
    with contextlib.suppress(ConfigError):
        connect(url, timeout=1)


@pytest.mark.parametrize("sentinel", ["", ":26379", "host:port", "host:70000", "[::1", "host:1/2"])
def test_a_wrong_sentinel_is_a_config_error(sentinel: str) -> None:
    with pytest.raises(ConfigError, match=r"redis\.sentinels: '.*' is not HOST:PORT"):
        connect("redis://", timeout=1, sentinels=[sentinel], sentinel_service="tfgateway")


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("gone"),
        redis.ResponseError("OOM command not allowed"),
        ConnectionResetError(104, "reset"),
        TimeoutError(),
    ],
)
def test_what_goes_wrong_with_redis_is_a_store_error(error: Exception) -> None:
    with pytest.raises(StoreError, match=r"^redis: .+") as caught, store_errors():
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("ours"), asyncio.CancelledError()])
def test_other_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)), store_errors():
        raise error
