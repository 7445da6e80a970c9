from __future__ import annotations

import json
import socket
import subprocess
import sys

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from tfgateway.telemetry import metrics
from tfgateway.telemetry.text import printable


@given(st.text() | st.binary(), st.integers(1, 300))
def test_any_text_becomes_one_bounded_printable_line(value: str | bytes, limit: int) -> None:
    shown = printable(value, limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 40
    shown.encode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain é", "plain é"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        (b"a\xff", "a\\xff"),
        ("\u202eabc\u2028", "\\u202eabc\\u2028"),
        ("\ud800", "\\ud800"),
        (ValueError("no"), "no"),
        ("x" * 201, "x" * 200 + "... (201 characters)"),
    ],
)
def test_what_is_shown(value: object, shown: str) -> None:
    assert printable(value) == shown


def logged(form: str, statement: str) -> str:
    """What a process of its own writes to standard error: logging is set up once in a process."""
    program = (
        "from tfgateway.settings import LogSettings\nfrom tfgateway.telemetry import logs\n"
        f"logs.configure(LogSettings(format={form!r}))\nlog = logs.logger('dns')\n{statement}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_an_event_is_one_json_object_a_line() -> None:
    lines = logged("json", "log.warning('element skipped', key='a\\nb', count=3)\nlog.debug('not shown')").splitlines()
    assert len(lines) == 1
    event = json.loads(lines[0])
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "element skipped", "level": "warning", "component": "dns", "key": "a\\nb", "count": 3}


@pytest.mark.parametrize("form", ["json", "console"])
def test_t13_secrets_are_hidden_and_control_characters_escaped(form: str) -> None:
    text = logged(form, "log.info('x', clientsecret='s3cr3t', seed=b's3cr3t', mnemonic=['s3cr3t'], host='a\\x1b[31mb')")
    assert "s3cr3t" not in text
    assert "(hidden)" in text
    assert "\x1b[31mb" not in text


async def test_metrics_are_served_on_the_address_asked_for() -> None:
    registry = CollectorRegistry()
    Counter("tfgateway_dns_queries", "Queries", registry=registry).inc(3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runner = await metrics.serve(registry, f"127.0.0.1:{port}")
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert "tfgateway_dns_queries_total 3.0" in await answer.text()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("module", ["dns.server.plane", "proxy.server", "fourtosix.server", "workers.supervisor"])
def test_a_plane_starts_without_what_only_tables_on_a_terminal_need(module: str) -> None:
    script = f"import sys, tfgateway.cli.main, tfgateway.{module}; print('rich' in sys.modules); import rich.table"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
