"""``tfgateway tunnel`` as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.ports import free_port
from tests.support.waiting import soon
from tests.unit.daemon.tunnel.conftest import SECRET, World, ask
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


async def test_a_file_of_services_is_followed_while_it_runs(world: World, tmp_path: Path) -> None:
    gateway = world.gateway(tunnel_grace=0.2)
    gateway.tunnels.add_secret(b"7:blog")
    echoing = await world.service()
    (tmp_path / "home.secret").write_bytes(SECRET)
    (tmp_path / "blog.secret").write_text("7:blog\n")
    path = tmp_path / "tunnel.toml"
    metrics = free_port()

    def write(*names: str) -> None:
        head = f'gateways = ["127.0.0.1:{gateway.port}"]\nbackoff = 0.1\nmetrics = "127.0.0.1:{metrics}"\n'
        tunnel = '[[tunnels]]\nname = "{0}"\nsecret_file = "{0}.secret"\nlocal = "127.0.0.1:{1}"\n'
        path.write_text(head + "".join(tunnel.format(name, echoing) for name in names))

    write("home")
    checked = await asyncio.create_subprocess_exec(PROGRAM, "tunnel", "--file", str(path), "--check")
    assert await asyncio.wait_for(checked.wait(), 30) == 0
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "tunnel", "--file", str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        await soon(lambda: gateway.metric("tfgateway_tunnels") == 1)
        running = gateway.visit(b"a")
        await soon(lambda: gateway.metric("tfgateway_tunnel_streams_active") == 1)
        write("home", "blog")
        await soon(lambda: gateway.metric("tfgateway_tunnels") == 2)
        assert await ask(gateway.visit(b"x", b"7:blog")) == b"x"
        page = await asyncio.to_thread(urlopen, f"http://127.0.0.1:{metrics}/metrics")
        assert b'tfgateway_tunnel_client_connected{gateway="127.0.0.1' in page.read()
        path.write_text("nonsense")
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while b"the file is not taken" not in await process.stdout.readline():
                pass
        write("blog")
        process.send_signal(signal.SIGHUP)
        assert await ask(running, b"b") == b"ab"
        await soon(lambda: gateway.metric("tfgateway_tunnels") == 1)
        path.unlink()
        checked = await asyncio.create_subprocess_exec(
            PROGRAM, "tunnel", "--file", str(path), "--check", stderr=asyncio.subprocess.DEVNULL
        )
        assert await asyncio.wait_for(checked.wait(), 30) == 2
        assert await ask(gateway.visit(b"x", b"7:blog")) == b"x"
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
