"""The first half of a reload, which may fail or be interrupted and leaves everything as it was."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from tfgateway.errors import ConfigError, GatewayError
from tfgateway.workers import handover
from tfgateway.workers.ipc.worker_handle import WorkerHandle
from tfgateway.workers.metrics import page
from tfgateway.workers.pool_spec import PoolSpec
from tfgateway.workers.processes import open_file, reap
from tfgateway.workers.reload import config_test
from tfgateway.workers.resources import Resources


@dataclass(frozen=True)
class Prepared:
    """A generation that is ready but does not serve yet, and what its supervisor needs."""

    spec: PoolSpec
    generation: int
    workers: list[WorkerHandle]
    page: socket.socket
    """Where its metrics page is: the same socket, unless the address is another one."""
    file: BinaryIO
    """For the handover."""
    undo: ExitStack
    """Its end undoes all, the file included, unless ``pop_all`` was called before."""


async def prepare(resources: Resources) -> Prepared:
    """Start the workers of the current release with the current configuration, up to the point where they may serve.

    Errors: ``GatewayError``, ``OSError``; all is undone then.
    """
    with ExitStack() as undo:
        file = undo.enter_context(open_file())
        handover.write(file, resources.handover(back=config_test.own_command()))
        spec = await config_test.run_config_test(
            resources.program, resources.arguments, file, lambda pid: _ended(resources, pid)
        )
        generation = resources.pool.generation + 1
        where = resources.page.socket
        if spec.metrics != resources.spec.metrics:
            where = undo.enter_context(page.listen(resources.plane, spec))
        undo.callback(resources.listeners.discard, resources.listeners.prepare(spec.endpoints, spec.workers))
        undo.callback(lambda: resources.pool.dismiss(resources.pool.active(generation)))
        resources.pool.start(spec, generation)
        workers = await _until_ready(resources, spec, generation)
        return Prepared(spec, generation, workers, where, file, undo.pop_all())


async def _until_ready(resources: Resources, spec: PoolSpec, generation: int) -> list[WorkerHandle]:
    """The workers, when all are ready. Errors: ``GatewayError`` when one fails."""
    workers = resources.pool.active(generation)
    while not all(one.state == "ready" and not one.ended for one in workers):
        for one in workers:
            if one.failure is not None:
                raise (ConfigError if one.failure.code == 2 else GatewayError)(one.failure.text)
            if one.state == "killed":
                raise GatewayError(f"a worker of {spec.release} was not ready in {spec.start_limit:.0f} s")
            if one.ended:
                why = ": ".join(filter(None, (one.ended, one.status)))
                raise GatewayError(f"a worker of {spec.release} ended before it was ready ({why})")
        await resources.turn.wait()
    return workers


async def _ended(resources: Resources, pid: int) -> str:
    """Wait for a child; how it ended."""
    while (how := reap(pid)) is None:
        await resources.turn.wait()
    return how
