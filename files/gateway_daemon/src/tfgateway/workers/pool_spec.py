"""How the workers of a plane are started, watched and drained: made by one release from one reading of its settings."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tfgateway.plane import Endpoint, Plane
from tfgateway.settings import Settings, parse

_MOST = 8
"""Workers by default at most: each holds a copy of what it serves."""
_GRACE = 5.0
"""Seconds added to the plane's drain time; then a worker is killed."""


class PoolSpec(msgspec.Struct, frozen=True):
    """How a generation of workers is started, watched and drained."""

    program: str
    """Path of the release's own launcher, symbolic links resolved: replacements are of the same release."""
    arguments: tuple[str, ...]
    config: str
    config_name: str
    endpoints: tuple[Endpoint, ...]
    workers: int
    drain_limit: float
    start_limit: float
    hang_limit: float
    metrics: str
    address_limit: float = 30.0
    command: tuple[str, ...] = ()
    """Interpreter and arguments by which this release becomes the supervisor; empty: one that does not say, and is
    started by its launcher."""

    @property
    def release(self) -> str:
        """The directory of the release, as operators know it: ``0.1.0+1f3a...``."""
        return Path(self.program).parent.parent.name


def make(plane: Plane, program: str, arguments: tuple[str, ...], config: str, config_name: str) -> PoolSpec:
    """The specification that follows from a configuration. Errors: ``ConfigError``."""
    settings: Settings = parse(config.encode(), config_name)
    return PoolSpec(
        program=os.path.realpath(program),
        arguments=arguments,
        config=config,
        config_name=config_name,
        endpoints=tuple(plane.endpoints(settings)),
        workers=plane.workers(settings) or default_workers(len(os.sched_getaffinity(0)), plane.least_workers),
        drain_limit=plane.drain(settings) + _GRACE,
        start_limit=settings.workers.start_timeout,
        hang_limit=settings.workers.hang_timeout,
        metrics=plane.metrics(settings),
        address_limit=settings.workers.address_timeout,
    )


def default_workers(processors: int, least: int) -> int:
    """Half of the processors: planes share the machine with each other and with redis. least: what the plane wants."""
    return max(least, min(processors // 2, _MOST))
