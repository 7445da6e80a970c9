"""Before a release takes over: does it start, does it accept the configuration, could it take over from this one?

The release is started as it will be, with the same arguments and the state that it would get, but told to say what it
would do and to end. So a missing interpreter, an import that fails and a wrong configuration are found while the
workers of the running release go on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import BinaryIO

import msgspec

from tfgateway.errors import ConfigError, GatewayError
from tfgateway.workers import handover
from tfgateway.workers.planning import Plan

HANDOVER = "TFGATEWAY_HANDOVER"
"""Environment variable: descriptor of the state to take over."""
_REHEARSAL = "TFGATEWAY_REHEARSAL"
_LIMIT = 60.0
"""Seconds: starting an interpreter on a busy machine."""


def called() -> bool:
    """Whether this process is the one that rehearses."""
    return _REHEARSAL in os.environ


def perform(plan: Plan) -> int:
    """Say what this release would do. Errors: ``GatewayError`` when it could not take over."""
    handover.read(int(os.environ[HANDOVER]))
    sys.stdout.write(msgspec.json.encode(msgspec.structs.replace(plan, command=own_command())).decode())
    return 0


def own_command() -> tuple[str, ...]:
    """How this process was started, with its interpreter and without its launcher; empty: that is not known."""
    return (sys.executable, *sys.orig_argv[1:]) if sys.executable else ()


async def rehearse(program: str, arguments: tuple[str, ...], file: BinaryIO) -> Plan:
    """What the release at ``program`` would do now. file: holds the state that it would take over.

    Errors: ``GatewayError`` that says why it would not.
    """
    environ = {**os.environ, HANDOVER: str(file.fileno()), _REHEARSAL: "1"}
    environ.pop("NOTIFY_SOCKET", None)
    try:
        child = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
            pass_fds=[file.fileno()],
        )
    except OSError as error:
        raise GatewayError(f"{program} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(_LIMIT):
            said, complained = await child.communicate()
    except TimeoutError:
        raise GatewayError(f"{program} did not start in {_LIMIT:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == 0:
        try:
            return msgspec.json.decode(said, type=Plan)
        except msgspec.MsgspecError as error:
            raise GatewayError(f"{program} is no release of this kind: {error}") from error
    lines = complained.decode(errors="replace").strip().splitlines() or ["no word"]
    text = lines[-1].removeprefix("tfgateway: error: ")
    if child.returncode == 2:
        raise ConfigError(text)
    raise GatewayError(f"{program} does not run (exit code {child.returncode}): {text}")
