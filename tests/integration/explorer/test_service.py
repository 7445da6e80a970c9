"""The explorer as a service: its own TLS, its metrics, a backup while it runs and what is restored from it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import ssl
import stat
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from tfgateway.explorer import user
from tfgateway.explorer.client import ExplorerClient
from tfgateway.identity.keys import Identity

from tests.support.processes import CommandLine, Explorer

USER = Identity.from_seed(bytes(range(0x20, 0x40)))


def _make_certificate(directory: Path, name: str) -> None:
    """tls.crt and tls.key of 127.0.0.1 in ``directory``; ``name`` is the subject."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)


def _served_name(port: int, directory: Path) -> str:
    """The subject of the certificate that is served, verified as a client does."""
    context = ssl.create_default_context(cafile=str(directory / "tls.crt"))
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/api/v1/users", context=context, timeout=30) as answer:
        assert answer.status == 200
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    shown = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, capture_output=True, text=True)
    return shown.stdout.strip().rpartition("=")[2].strip()


def _arguments(port: int, directory: Path, *more: str) -> list[str]:
    return ["explorer", "--listen", f"127.0.0.1:{port}", "--database", str(directory / "e.db"), *more]


def _tls(directory: Path) -> list[str]:
    return ["--tls-certificate", str(directory / "tls.crt"), "--tls-key", str(directory / "tls.key")]


def test_a_certificate_is_renewed_without_a_restart(
    tfgateway: CommandLine, free_port: Callable[[], int], tmp_path: Path
) -> None:
    _make_certificate(tmp_path, "first")
    port = free_port()
    process = tfgateway(*_arguments(port, tmp_path, *_tls(tmp_path)), config="")
    assert _served_name(port, tmp_path) == "first"
    _make_certificate(tmp_path, "second")
    process.send_signal(signal.SIGHUP)
    process.wait_log("certificate loaded")
    assert _served_name(port, tmp_path) == "second"
    (tmp_path / "tls.key").write_text("nonsense")
    process.send_signal(signal.SIGHUP)
    process.wait_log("certificate not renewed")
    assert _served_name(port, tmp_path) == "second"
    assert process.stop() == 0


def test_ipv4_and_ipv6(tfgateway: CommandLine, free_port: Callable[[], int], tmp_path: Path) -> None:
    port = free_port()
    tfgateway(*_arguments(port, tmp_path, "--listen", f"[::1]:{port}"), config="")
    for host in ("127.0.0.1", "[::1]"):
        with urllib.request.urlopen(f"http://{host}:{port}/api/v1/users", timeout=30) as answer:
            assert answer.read() == b"[]\n"


def test_tls_that_cannot_be_served(tfgateway: CommandLine, free_port: Callable[[], int], tmp_path: Path) -> None:
    _make_certificate(tmp_path, "first")
    run = lambda *more: tfgateway.run(*_arguments(free_port(), tmp_path, *more), config="")  # noqa: E731
    assert run(*_tls(tmp_path)[:2]).returncode == 2
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:x", "-out", str(tmp_path / "tls.key")]
    key = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True).stdout
    subprocess.run(command, input=key, check=True, capture_output=True)
    for _ in ("a key with a password", "no key at all"):
        ended = run(*_tls(tmp_path))
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"tfgateway: error: TLS certificate {tmp_path / 'tls.crt'}")
        (tmp_path / "tls.key").unlink(missing_ok=True)


async def test_metrics_are_served_on_their_own_address(
    tfgateway: CommandLine, free_port: Callable[[], int], tmp_path: Path
) -> None:
    port, metrics = free_port(), free_port()
    await asyncio.to_thread(tfgateway, *_arguments(port, tmp_path, "--metrics", f"127.0.0.1:{metrics}"), config="")
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        waiting = [
            asyncio.create_task(session.get(f"{base}/api/v1/reservations/nodes/N/workloads?from=0&wait=60"))
            for _ in range(3)
        ]
        for path in ("/api/v1/users/7", "/api/v1/users/8", "/anything", "/metrics"):
            assert (await session.get(base + path)).status == 404
        lines: list[str] = []
        while "tfgateway_explorer_polls_waiting 3.0" not in lines:
            async with session.get(f"http://127.0.0.1:{metrics}/metrics") as answer:
                lines = (await answer.text()).splitlines()
        for task in waiting:
            task.cancel()
    users = 'method="GET",route="/api/v1/users/{id}",status="404"'
    assert f"tfgateway_explorer_requests_total{{{users}}} 2.0" in lines
    assert 'tfgateway_explorer_requests_total{method="any",route="unknown",status="404"} 2.0' in lines
    assert 'tfgateway_explorer_request_seconds_count{route="/api/v1/users/{id}"} 2.0' in lines


async def test_a_backup_of_a_running_explorer(explorer: Explorer, tfgateway: CommandLine, tmp_path: Path) -> None:
    async with ExplorerClient(explorer.url) as client:
        started, stopping = asyncio.Event(), asyncio.Event()
        registered = 0

        async def keep_writing() -> None:
            nonlocal registered
            while not stopping.is_set():
                await user.register(client, USER, f"user{registered}", f"{registered}@example.com")
                registered += 1
                started.set()

        writing = asyncio.create_task(keep_writing())
        await started.wait()
        before = registered
        copy = tmp_path / "copies" / "e.db"
        copy.parent.mkdir()
        arguments = ["explorer", "backup", "--database", str(explorer.database), str(copy)]
        ended = await asyncio.to_thread(tfgateway.run, *arguments, config="")
        after = registered
        stopping.set()
        await writing
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"{copy}: {copy.stat().st_size} bytes\n"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [path.name for path in copy.parent.iterdir()] == ["e.db"]
    with sqlite3.connect(copy) as database:
        assert before <= database.execute("SELECT count(*) FROM user").fetchone()[0] <= after + 1

    # Restored: all is there, and an id that was given out after the copy was made is not given again.
    explorer.stop()
    copy.rename(explorer.database)
    for name in ("-wal", "-shm"):
        explorer.database.with_name(explorer.database.name + name).unlink(missing_ok=True)
    explorer.start()
    async with ExplorerClient(explorer.url) as client:
        assert (await client.user(1)).name == "user0"
        assert (await user.register(client, USER, "late", "late@example.com")).id > 1_000_000


@pytest.mark.parametrize("content", [None, b"", b"this is no database" * 100])
def test_what_cannot_be_backed_up(tfgateway: CommandLine, tmp_path: Path, content: bytes | None) -> None:
    database, copy = tmp_path / "e.db", tmp_path / "copy.db"
    if content is not None:
        database.write_bytes(content)
    ended = tfgateway.run("explorer", "backup", "--database", str(database), str(copy), config="")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"tfgateway: error: {database}: ")
    assert not list(tmp_path.glob("copy.db*"))
    assert database.exists() == (content is not None)


def test_a_backup_overwrites_nothing(explorer: Explorer, tfgateway: CommandLine, tmp_path: Path) -> None:
    for output in (explorer.database, tmp_path / "absent" / "copy.db"):
        ended = tfgateway.run("explorer", "backup", "--database", str(explorer.database), str(output), config="")
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
