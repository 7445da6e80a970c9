"""Which program is the gateway's redis, by what the node has."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Evaluate = Callable[..., dict[str, dict[str, Any]]]

REDIS = "Redis server v=8.0.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=0"
VALKEY = "Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=0"
UBUNTU = {"distribution": "Ubuntu", "distribution_version": "20.04"}


def test_it_is_what_the_node_has_unless_that_is_too_old(evaluate: Evaluate) -> None:
    debian = {"tfredis_source": "auto", "facts": {"distribution": "Debian", "distribution_version": "13"}}
    cases = {
        "redis": debian | {"_tfredis_host": {"commands": {"version": {"rc": 0, "stdout": REDIS}}}},
        "valkey": debian | {"_tfredis_host": {"commands": {"version": {"rc": 0, "stdout": VALKEY}}}},
        "check": debian | {"_tfredis_host": {"commands": {"version": {"rc": 127, "stdout": ""}}}},
        "old": {
            "tfredis_source": "auto",
            "facts": UBUNTU,
            "_tfredis_fetched": {"stdout": json.dumps({"sha256": "0123456789abcdef"})},
        },
    }
    found = evaluate("tfredis", {"server": "_tfredis_program", "cli": "_tfredis_cli"}, cases)
    brought = "/opt/tfgateway/redis/0123456789ab/bin"
    assert found == {
        "redis": {"server": "/usr/bin/redis-server", "cli": "/usr/bin/redis-cli"},
        "valkey": {"server": "/usr/bin/valkey-server", "cli": "/usr/bin/valkey-cli"},
        "check": {"server": "/usr/bin/redis-server", "cli": "/usr/bin/redis-cli"},
        "old": {"server": f"{brought}/redis-server", "cli": f"{brought}/redis-cli"},
    }
