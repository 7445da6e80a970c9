"""The config test of a reload: does the release start, accept the configuration, and understand the handed-over state?

The release is started as it will be, with the same arguments and the state that it would get, but only prints what it
would do and ends. So a missing interpreter, an import that fails and a wrong configuration are found while the
workers of the running release go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import BinaryIO

import msgspec

from tfgateway.errors import ConfigError, GatewayError
from tfgateway.workers import handover
from tfgateway.workers.pool_spec import PoolSpec
from tfgateway.workers.processes import open_file, spawn

HANDOVER = "TFGATEWAY_HANDOVER"
"""Environment variable: descriptor of the state to take over."""
_CONFIG_TEST = "TFGATEWAY_REHEARSAL"
_LIMIT = 60.0
"""Seconds: starting an interpreter on a busy machine."""
_MOST = 64 * 1024 * 1024
"""Bytes of output that are read: far more than a specification, far less than the memory."""


def called() -> bool:
    """Whether this process runs as a config test."""
    return _CONFIG_TEST in os.environ


def perform(spec: PoolSpec) -> int:
    """Run the config test and print the specification of the workers.

    Errors: ``GatewayError`` when this release could not take over.
    """
    handover.read(int(os.environ[HANDOVER]))
    sys.stdout.write(msgspec.json.encode(msgspec.structs.replace(spec, command=own_command())).decode())
    return 0


def own_command() -> tuple[str, ...]:
    """The command line of this process, with its interpreter and without its launcher; empty: unknown."""
    return (sys.executable, *sys.orig_argv[1:]) if sys.executable else ()


async def run_config_test(
    program: str, arguments: tuple[str, ...], file: BinaryIO, ended: Callable[[int], Awaitable[str]]
) -> PoolSpec:
    """The specification of the workers of the release at ``program``, by a config test.

    file: holds the state that it would take over. ended: waits for the end of a process and says how it ended.
    Errors: ``GatewayError`` that says why it would not.
    """
    environ = {**os.environ, HANDOVER: str(file.fileno()), _CONFIG_TEST: "1"}
    environ.pop("NOTIFY_SOCKET", None)
    with ExitStack() as stack:
        # Files in memory, not pipes: no reader is needed, and nothing is left when the next one cannot be opened.
        asked, said, complained = (stack.enter_context(open_file()) for _ in range(3))
        standard = [one.fileno() for one in (asked, said, complained)]
        try:
            pid = spawn((program, *arguments), environ, passed=[file.fileno()], standard=standard)
        except OSError as error:
            raise GatewayError(f"{program} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(_LIMIT):
                how = await ended(pid)
        except (TimeoutError, asyncio.CancelledError) as error:
            os.kill(pid, signal.SIGKILL)
            await ended(pid)
            if isinstance(error, TimeoutError):
                raise GatewayError(f"{program} did not start in {_LIMIT:.0f} s") from None
            raise
        return _spec(program, how, _read(said), _read(complained))


def _read(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(_MOST)


def _spec(program: str, how: str, said: bytes, complained: bytes) -> PoolSpec:
    if how == "exit code 0":
        try:
            return msgspec.json.decode(said, type=PoolSpec)
        except msgspec.MsgspecError as error:
            raise GatewayError(f"{program} is no release of this kind: {error}") from error
    lines = complained.decode(errors="replace").strip().splitlines() or ["no word"]
    text = lines[-1].removeprefix("tfgateway: error: ")
    if how == "exit code 2":
        raise ConfigError(text)
    raise GatewayError(f"{program} does not run ({how}): {text}")
