from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tfgateway.errors import ProgramError
from tfgateway.programs import run

from tests.support.waiting import soon


def alive(pid: Path) -> bool:
    return Path("/proc", pid.read_text().strip()).exists()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_output_is_returned() -> None:
    assert await run("printf", "%s|", "a b", "$HOME") == b"a b|$HOME|"


async def test_a_secret_can_be_opened_as_a_file() -> None:
    assert await run("cat", "/dev/stdin", secret=b"hidden\n") == b"hidden\n"


async def test_without_a_secret_the_input_is_empty() -> None:
    assert await run("cat") == b""


async def test_an_error_says_what_the_program_said() -> None:
    with pytest.raises(ProgramError, match=r"^sh -c .*: broken\\x1b$"):
        await run("sh", "-c", "printf 'broken\\033' >&2; exit 3")
    with pytest.raises(ProgramError, match=r"^false: exit code 1$"):
        await run("false")


async def test_an_error_does_not_repeat_a_secret() -> None:
    with pytest.raises(ProgramError) as caught:
        await run("sh", "-c", "cat >&2; exit 1", secret=b"hidden")
    assert "hidden" not in str(caught.value)
    assert "exit code 1" in str(caught.value)


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramError, match=r"^no-such-program: No such file or directory$"):
        await run("no-such-program", "argument")


async def test_what_takes_too_long_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(ProgramError, match=r"did not end in 0\.5 s"):
        await run("sh", "-c", f"echo $$ > {pid}; exec sleep 60", limit=0.5)
    assert not alive(pid)


async def test_cancelled_it_kills_the_program(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    task = asyncio.create_task(run("sh", "-c", f"echo $$ > {pid}; exec sleep 60"))
    await soon(lambda: pid.exists() and pid.read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pid)


async def test_it_gets_nothing_of_our_environment_but_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "verbose")
    lines = (await run("env")).decode().splitlines()
    assert sorted(lines) == ["LC_ALL=C", f"PATH={os.environ['PATH']}"]


async def test_no_descriptor_is_left_open() -> None:
    await run("true")
    before = descriptors()
    for _ in range(5):
        await run("true", secret=b"x")
        with pytest.raises(ProgramError):
            await run("no-such-program")
    assert descriptors() == before
