"""What every TCP socket of the planes needs."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from tfgateway.net.sockets import resolve


@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example", "nul\0.example", "name.invalid"])
async def test_a_name_that_cannot_be_resolved_is_an_oserror(name: str) -> None:
    with pytest.raises(OSError):
        await resolve(name, 80)


async def test_no_thread_for_the_resolver_is_an_oserror() -> None:
    """As when the process may have no more of them: the pool cannot start one."""
    ended = ThreadPoolExecutor(1)
    ended.shutdown()
    asyncio.get_running_loop().set_default_executor(ended)
    with pytest.raises(OSError, match=r"name\.example"):
        await resolve("name.example", 80)


async def test_what_the_system_finds() -> None:
    assert ("127.0.0.1", 80) in [entry[4] for entry in await resolve("127.0.0.1", 80)]
