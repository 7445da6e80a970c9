"""A process from start to stop, as systemd sees it: real signals, a real notification socket."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_PLANE = """\
import asyncio
import sys
from tfgateway.workers.lifecycle import Lifecycle, run

async def main(lifecycle: Lifecycle) -> None:
    lifecycle.status("listening")
    lifecycle.ready()
    {then}

sys.exit(run(main))
"""
_UNTIL_STOPPED = "await lifecycle.stopping.wait(); print('drained', flush=True)"

Start = Callable[..., Any]


@pytest.fixture
def plane(start_process: Start, tmp_path: Path) -> Start:
    """Start a plane whose main coroutine, once ready, does what ``then`` says; wait until it is ready."""

    def start(then: str = _UNTIL_STOPPED, **environ: str) -> Any:
        script = tmp_path / "plane.py"
        script.write_text(_PLANE.format(then=then))
        return start_process("plane", [sys.executable, str(script)], environ).wait_ready()

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(plane: Start, number: signal.Signals) -> None:
    process = plane()
    process.send_signal(number)
    assert process.wait() == 0
    assert "drained" in process.log
    assert process.notifications == ["STATUS=listening", "READY=1", "STOPPING=1"]


def test_a_second_signal_while_it_drains_changes_nothing(plane: Start) -> None:
    process = plane(
        "await lifecycle.stopping.wait(); print('asked', flush=True); await asyncio.sleep(0.5); print('drained')"
    )
    process.send_signal(signal.SIGTERM)
    process.wait_log("asked")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "drained" in process.log
    assert process.notifications.count("STOPPING=1") == 1


def test_sighup_does_not_end_it(plane: Start) -> None:
    process = plane()
    process.send_signal(signal.SIGHUP)
    process.wait_log("SIGHUP")
    assert process.running
    assert process.stop() == 0


def test_main_may_end_by_itself(plane: Start) -> None:
    process = plane("return")
    assert process.wait() == 0
    assert process.notifications[-1] == "STOPPING=1"


def test_what_main_raises_is_not_hidden(plane: Start) -> None:
    process = plane("raise OSError('port 53 is taken')")
    assert process.wait() == 1
    assert "OSError: port 53 is taken" in process.log


def test_watchdog_hears_of_a_living_loop(plane: Start) -> None:
    process = plane(WATCHDOG_USEC="100000")
    process.wait_for(lambda: process.notifications.count("WATCHDOG=1") >= 3, "three pings")
    assert process.stop() == 0


def test_watchdog_hears_nothing_from_a_hanging_loop(plane: Start) -> None:
    process = plane(
        "await asyncio.sleep(0.2); import time; print('hangs', flush=True); time.sleep(1); print('back', flush=True);"
        + _UNTIL_STOPPED,
        WATCHDOG_USEC="100000",
    )
    process.wait_log("hangs")
    before = len(process.notifications)
    process.wait_log("back")
    # One ping may have been on its way, and one may follow at once; a living loop would have sent twenty.
    assert len(process.notifications) - before <= 2
    assert process.stop() == 0


def test_no_watchdog_no_pings(plane: Start) -> None:
    process = plane("await asyncio.sleep(0.2);" + _UNTIL_STOPPED)
    process.stop()
    assert "WATCHDOG=1" not in process.notifications
