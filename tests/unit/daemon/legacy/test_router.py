"""The server part of the old router's file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ConfigError
from tfgateway.legacy.router import Router, parse

PRODUCTION = b"""
[server]
addr = "0.0.0.0"
port = 443
httpport = 80
clientsport = 18000

[server.dbbackend]
type = "redis"
addr = "127.0.0.1"
port = 6379
refresh = 10
"""


def test_the_file_of_the_production_nodes() -> None:
    assert parse(PRODUCTION) == Router(443, 80, 18000, "127.0.0.1:6379", 0)


def test_keys_in_any_case_and_missing_ports() -> None:
    raw = b'[Server]\nPort = 1\n[SERVER.SERVICES."a.example"]\naddr = "192.0.2.1"\n'
    # Two spellings of one table are two tables: the first counts, as nobody writes both.
    assert parse(raw) == Router(1, 0, 0, ":0", 0)


@pytest.mark.parametrize("raw", [b"\xff", b"x", b"server = 1", b'[server]\nport = "443"\n', b"[server]\nport = true\n"])
def test_what_is_no_such_file(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        parse(raw)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_router_or_an_error(raw: bytes) -> None:
    try:
        assert isinstance(parse(raw), Router)
    except ConfigError as error:
        assert str(error).isprintable()
