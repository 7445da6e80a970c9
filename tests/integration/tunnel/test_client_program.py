"""``tfgateway tunnel`` as a process."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.support.waiting import soon
from tests.unit.daemon.tunnel.conftest import SECRET, World
from tests.unit.daemon.tunnel.conftest import world as world

PROGRAM = str(Path(sys.executable).with_name("tfgateway"))


@pytest.mark.parametrize(("outcome", "code"), [("unknown", 3), ("revoked", 4), ("replaced", 5), ("", 1)])
async def test_scripts_learn_from_the_exit_code_why_a_session_ended(world: World, outcome: str, code: int) -> None:
    gateway = world.gateway(tunnel_unknown_time=0.3)
    secret = "7:nobodys" if outcome == "unknown" else SECRET.decode()
    arguments = [
        "--remote",
        f"127.0.0.1:{gateway.port}",
        "--local",
        "127.0.0.1:1",
        "--secret",
        secret,
        "--once",
        "--json",
    ]
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "tunnel", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    if outcome != "unknown":
        await soon(lambda: gateway.metric("tfgateway_tunnels") == 1)
    if outcome == "revoked":
        gateway.tunnels.remove_secret(SECRET)
    elif outcome == "replaced":
        world.client(gateway, await world.service())
    elif not outcome:
        gateway.close()
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == code
    last = json.loads(said.splitlines()[-1])
    assert (last["phase"], last["outcome"]) == ("ended", outcome or "registered")
    assert last["reason"]
