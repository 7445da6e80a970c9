"""Whether the node's own redis lets in programs without a password."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tfgateway.redis_schema.connection import store_errors

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_local(url: str) -> bool:
    """Whether a valid redis url names the redis of this node."""
    parts = urlsplit(url)
    return parts.scheme == "unix" or parts.hostname in _LOOPBACK


async def open_access(redis: Redis) -> str:
    """Who gets in without a password, for the operator; empty: nobody, or this login may not ask.

    Errors: ``StoreError``.
    """
    with store_errors():
        try:
            default: Any = await redis.acl_getuser("default")
            port: Any = await redis.config_get("port")
        except ResponseError:  # NOPERM; or a redis before 6.0
            return ""
    if not default or "on" not in default["flags"] or "nopass" not in default["flags"]:
        return ""
    number = next((int(value) for value in port.values()), 0)
    where = f"at port {number} of loopback" if number else "at its socket"
    return f"redis lets every program in {where}, without a password; site.yml closes it once nothing needs that"
