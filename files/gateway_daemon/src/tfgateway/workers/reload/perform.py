"""A reload: another configuration or release takes over without a gap.

1. ``config_test``: the release that ``current`` points to says what it would do with the current configuration.
2. The workers of the next generation start on the same sockets, beside those that serve.
3. When all are ready they are let in, and the last generation drains.
4. The supervisor executes the new release in its own place (same pid), with sockets and workers handed over.

Whatever fails before step 3 leaves everything as it was: the reload has failed (``prepare``). From then on the next
generation serves, and the reload is done. When step 4 fails, this supervisor goes on with the new workers and says so.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence

from tfgateway.errors import GatewayError
from tfgateway.telemetry.logs import logger
from tfgateway.workers.control_socket import report
from tfgateway.workers.handover import write
from tfgateway.workers.processes import inherited
from tfgateway.workers.reload import config_test
from tfgateway.workers.reload.prepare import Prepared, prepare
from tfgateway.workers.resources import Resources

BLOCKED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that wait while the process executes another release."""

_log = logger("workers")


async def perform(resources: Resources) -> str:
    """Reload and answer the callers; the reason of a failure. Empty: the next generation serves.

    Does not return when all went well: another program goes on. When it returns all the same, the next generation is
    this supervisor's, and ``resources.remark`` says why.
    """
    callers = resources.control.take()
    _log.info("reloading")
    try:
        made = await prepare(resources)
        with made.undo as undo:
            resources.pool.start_serving(made.workers)
            undo.pop_all()
    except BaseException as error:
        expected = isinstance(error, (GatewayError, OSError))
        reason = str(error) if expected else f"ended by {type(error).__name__}: see the log"
        resources.reloads["failed"] += 1
        _log.error("reload failed: everything goes on as before", reason=reason, exc_info=not expected)
        report(callers, "failed", reason)
        if not isinstance(error, Exception):
            raise
        return reason
    with made.file:
        await _go_on_with(resources, made, callers)
    return ""


async def _go_on_with(resources: Resources, made: Prepared, callers: Sequence[socket.socket]) -> None:
    """Switch to the next generation: hand it over to its own release, or keep it."""
    last = [one for one in resources.pool.workers.values() if one.generation != made.generation]
    resources.pool.adopt(made.spec, made.generation, was_complete=True)
    resources.pool.drain(last)
    resources.reloads["done"] += 1
    resources.remark = ""
    _log.info(
        "next generation serves", generation=made.generation, workers=made.spec.workers, release=made.spec.release
    )
    why = "it was stopped"
    try:
        await resources.page.pause()  # scrapes that are under way are finished; the successor answers later ones
        _execute(resources, made, callers)
    except Exception as error:
        why = str(error)
    finally:
        _keep(resources, made, callers, why)


def _keep(resources: Resources, made: Prepared, callers: Sequence[socket.socket], why: str) -> None:
    """Go on as the supervisor of the next generation's workers."""
    resources.page.move(made.page)
    resources.listeners.keep_only(made.spec.endpoints)
    resources.remark = f"the supervisor is still that of the release before: {why}"
    _log.error("supervisor not replaced: the next generation serves with this one", reason=why)
    report(callers, "done", f"{resources.pool.summary}; {resources.remark}")


def _execute(resources: Resources, made: Prepared, callers: Sequence[socket.socket]) -> None:
    """Execute the supervisor of the release that passed the config test. Errors: ``OSError``."""
    state = resources.handover(callers, made.page, back=config_test.own_command())
    write(made.file, state)
    descriptor = made.file.fileno()
    command = made.spec.command or (resources.program, *resources.arguments)
    with inherited([descriptor, *state.descriptors]):
        execute(command, {**os.environ, config_test.HANDOVER: str(descriptor)})


def execute(command: tuple[str, ...], environ: Mapping[str, str]) -> None:
    """Replace this process by another program; signals are blocked until it handles them. Errors: ``OSError``."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
    try:
        os.execve(command[0], command, environ)  # noqa: S606 - no shell is wanted
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
