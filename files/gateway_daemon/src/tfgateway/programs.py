"""Runs programs of the system without a shell and for a bounded time."""

from __future__ import annotations

import asyncio
import os

from tfgateway.errors import ProgramError
from tfgateway.telemetry.text import printable

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def run(*command: str, secret: bytes = b"", limit: float = 10.0) -> bytes:
    """Run a program; its standard output. Errors: ``ProgramError``.

    secret: at most 4096 bytes for its standard input; what it then says about an error is not repeated. limit: seconds
    after which it is killed.
    """
    try:
        process = await _start(command, secret)
    except OSError as error:
        raise ProgramError(f"{command[0]}: {error.strerror}") from error
    try:
        async with asyncio.timeout(limit):
            output, said = await process.communicate()
    except TimeoutError:
        raise ProgramError(f"{_shown(command)}: did not end in {limit:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        # The last line: wireguard-go prints a notice about the kernel before it.
        lines = said.strip().splitlines() if not secret else []
        why = printable(lines[-1]) if lines else f"exit code {process.returncode}"
        raise ProgramError(f"{_shown(command)}: {why}")
    return output


async def _start(command: tuple[str, ...], secret: bytes) -> asyncio.subprocess.Process:
    # A pipe of our own: asyncio's may be a socket, which /dev/stdin cannot open.
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, secret)  # fits into the pipe's buffer (PIPE_BUF)
        finally:
            os.close(writing)
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=reading,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # An environment of its own: with LOG_LEVEL wireguard-go keeps our pipes open, LANG changes messages.
            env={"PATH": os.environ.get("PATH", _PATH), "LC_ALL": "C"},
            # In a session of its own: what it leaves running must not get signals that are meant for us.
            start_new_session=True,
        )
    finally:
        os.close(reading)


def _shown(command: tuple[str, ...]) -> str:
    return printable(" ".join(command), 80)
