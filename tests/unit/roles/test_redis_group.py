"""Which data a group of gateways begins with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DATA, LIVE = "/var/lib/tfredis/appendonlydir", "/var/lib/tfredis/redis.conf"


def host(*paths: str) -> dict[str, Any]:
    return {"_tfredis_host": {"paths": {path: [path] if path in paths else [] for path in (DATA, LIVE)}}}


def test_data_of_a_gateway_of_its_own_are_not_replaced(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> None:
    cases = {
        "a-first-with-data": host(DATA) | {"gateway_group": "paris"},
        "b-fresh": host() | {"gateway_group": "paris"},
        "c-in-it-already": host(DATA, LIVE) | {"gateway_group": "paris"},
        "d-with-data": host(DATA) | {"gateway_group": "paris"},
        "e-first-of-another": host(DATA) | {"gateway_group": "rome"},
    }
    found = evaluate("tfredis", {"refused": "_tfredis_replaces_data | bool"}, cases)
    assert [name for name, values in found.items() if values["refused"]] == ["d-with-data"]
