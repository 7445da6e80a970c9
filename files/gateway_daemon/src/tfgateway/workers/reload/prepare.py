"""The first half of a reload, which may fail or be interrupted and leaves everything as it was."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from tfgateway.errors import ConfigError, GatewayError
from tfgateway.workers import handover
from tfgateway.workers.ipc.handle import Worker
from tfgateway.workers.metrics import page
from tfgateway.workers.planning import Plan
from tfgateway.workers.processes import open_file, reap
from tfgateway.workers.reload import config_test
from tfgateway.workers.resources import Resources


@dataclass(frozen=True)
class Prepared:
    """A generation that is ready but does not serve yet, and what its supervisor needs."""

    plan: Plan
    generation: int
    workers: list[Worker]
    page: socket.socket
    """Where its metrics page is: the same socket, unless the address is another one."""
    file: BinaryIO
    """For the handover."""
    undo: ExitStack
    """Its end undoes all, the file included, unless ``pop_all`` was called before."""


async def prepare(held: Resources) -> Prepared:
    """Start the workers of the current release with the current configuration, up to the point where they may serve.

    Errors: ``GatewayError``, ``OSError``; all is undone then.
    """
    with ExitStack() as undo:
        file = undo.enter_context(open_file())
        handover.write(file, held.handover(back=config_test.own_command()))
        plan = await config_test.run_config_test(held.program, held.arguments, file, lambda pid: _ended(held, pid))
        generation = held.pool.generation + 1
        where = held.page.socket
        if plan.metrics != held.plan.metrics:
            where = undo.enter_context(page.listen(held.plane, plan))
        undo.callback(held.listeners.discard, held.listeners.prepare(plan.endpoints, plan.workers))
        undo.callback(lambda: held.pool.dismiss(held.pool.active(generation)))
        held.pool.start(plan, generation)
        workers = await _until_ready(held, plan, generation)
        return Prepared(plan, generation, workers, where, file, undo.pop_all())


async def _until_ready(held: Resources, plan: Plan, generation: int) -> list[Worker]:
    """The workers, when all are ready. Errors: ``GatewayError`` when one fails."""
    workers = held.pool.active(generation)
    while not all(one.state == "ready" and not one.ended for one in workers):
        for one in workers:
            if one.failure is not None:
                raise (ConfigError if one.failure.code == 2 else GatewayError)(one.failure.text)
            if one.state == "killed":
                raise GatewayError(f"a worker of {plan.release} was not ready in {plan.start_limit:.0f} s")
            if one.ended:
                why = ": ".join(filter(None, (one.ended, one.status)))
                raise GatewayError(f"a worker of {plan.release} ended before it was ready ({why})")
        await held.turn.wait()
    return workers


async def _ended(held: Resources, pid: int) -> str:
    """Wait for a child; how it ended."""
    while (how := reap(pid)) is None:
        await held.turn.wait()
    return how
