"""Finds the old programs on this host: their units, command lines and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tfgateway import programs
from tfgateway.errors import ConfigError
from tfgateway.legacy import corefile, flags, router
from tfgateway.legacy.corefile import Corefile
from tfgateway.legacy.flags import Flags
from tfgateway.legacy.router import Router
from tfgateway.telemetry.text import printable

COREFILE = Path("/etc/coredns/Corefile")
ROUTER = Path("/etc/tcprouter/router.toml")
_LARGEST = 1024 * 1024
_DAEMON = "tfgateway"
_OURS = "reconcile"  # what our own unit of that name runs
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Found:
    """The settings that were found. ``None``: absent or not readable, and then a problem says why."""

    flags: Flags | None
    corefile: Corefile | None
    router: Router | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Read(Generic[_T]):
    value: _T | None
    problems: tuple[str, ...] = ()


async def look(corefile_path: Path = COREFILE, router_path: Path = ROUTER, proc: Path = Path("/proc")) -> Found:
    """Look for all of them; never fails for what is broken. Errors: ``ProgramError`` without systemd."""
    daemon = await _daemon(proc)
    dns = _file(corefile_path, lambda raw: corefile.parse(raw.decode("utf-8", "replace")))
    routes = _file(router_path, router.parse)
    problems = daemon.problems + dns.problems + routes.problems
    if dns.value is not None and dns.value.forwards:
        problems += (f"{corefile_path}: forwarded for everybody (I-10): names outside the zones will be refused",)
    return Found(daemon.value, dns.value, routes.value, problems)


async def _daemon(proc: Path) -> _Read[Flags]:
    """The flags of the running process: its unit computes them at start (I-14), so the file does not have them."""
    said = (await programs.run("systemctl", "show", "--property=MainPID", f"{_DAEMON}.service")).decode()
    pid = said.strip().rpartition("=")[2]
    if pid in ("", "0"):
        return _Read(None, (f"{_DAEMON}.service does not run: what it was started with is not known",))
    try:
        words = (proc / pid / "cmdline").read_bytes().rstrip(b"\0").decode("utf-8", "replace").split("\0")
    except OSError as error:
        return _Read(None, (f"{_DAEMON}.service: process {pid} cannot be read: {error.strerror}",))
    # An interpreter may stand in front of the program.
    program = next((at for at, word in enumerate(words) if Path(word).name == _DAEMON), 0)
    arguments = words[program + 1 :]
    if arguments[:1] == [_OURS]:
        return _Read(None, (f"{_DAEMON}.service is ours already",))
    parsed, problems = flags.parse(arguments)
    return _Read(parsed, tuple(f"{_DAEMON}.service: {problem}" for problem in problems))


def _file(path: Path, parse: Callable[[bytes], _T]) -> _Read[_T]:
    try:
        with path.open("rb") as file:
            return _Read(parse(file.read(_LARGEST)))
    except FileNotFoundError:
        return _Read(None)
    except OSError as error:
        return _Read(None, (f"{path}: cannot be read: {error.strerror}",))
    except ConfigError as error:
        return _Read(None, (f"{path}: {printable(error)}",))
