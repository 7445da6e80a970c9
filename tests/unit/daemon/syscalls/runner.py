"""One kind of visit with each fault in turn: what becomes of the visitor, of the next one, and of the descriptors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from tests.unit.daemon.syscalls.errors import errors
from tests.unit.daemon.syscalls.injector import Fault
from tests.unit.daemon.syscalls.plane import Gateway, Outcome, Request

_TRIES = 3
Allowed = set[str | Outcome]
"""Kinds of outcomes, or outcomes."""


@dataclass(frozen=True)
class Visit:
    """A kind of visit, and what may become of the visitor with a fault."""

    act: Callable[[Gateway], Awaitable[Outcome]]
    allowed: Callable[[Fault], Allowed]
    control: Request
    """Of the next visitor, who is served."""
    skip: frozenset[str] = frozenset()
    """Roles whose calls do not fail: other kinds of visits have the same."""
    always: tuple[Fault, ...] = ()
    """What happens besides the fault."""


async def inject(
    gateway: Gateway, visit: Visit, *, occurrences: int, all_errors: bool = False
) -> tuple[int, list[str]]:
    """How many faults there were, and what was wrong.

    occurrences: of each call, the first ones, that fail. all_errors: the later ones in all ways, not in one.
    """
    await gateway.rest()
    gateway.injector.arm(visit.always)
    assert (await visit.act(gateway)).kind == "served"
    await gateway.rest()
    gateway.close_pipes()
    count = 0
    wrong = []
    for fault in list(_faults(gateway, visit, occurrences, all_errors)):
        problem = await _check(gateway, visit, fault)
        for _ in range(_TRIES):
            if problem is not None:
                break
            problem = await _check(gateway, visit, fault)
        if problem is None and fault.number > 1:
            continue  # what comes in two pieces once may come in one
        count += 1
        if problem != "":
            wrong.append(f"{fault}: {problem or 'did not happen'}")
    return count, wrong + [f"{call}: not in the table" for call in gateway.injector.unknown]


def _faults(gateway: Gateway, visit: Visit, occurrences: int, all_errors: bool) -> Iterator[Fault]:
    always = {fault[:3] for fault in visit.always}
    for (role, call), count in sorted(gateway.injector.counts.items()):
        if role in visit.skip:
            continue
        for number in range(1, min(count, occurrences) + 1):
            if (role, call, number) not in always:
                ways = errors(call) if number == 1 or all_errors else errors(call)[-1:]
                yield from (Fault(role, call, number, error) for error in ways)


async def _check(gateway: Gateway, visit: Visit, fault: Fault) -> str | None:
    """One visitor with this fault, and one without; what was wrong. None: there was no such call this time."""
    gateway.logs.clear()
    gateway.unhandled.clear()
    try:
        gateway.injector.arm((*visit.always, fault))
        outcome = await visit.act(gateway)
        await gateway.rest()
        gateway.close_pipes()
        if fault not in gateway.injector.fired:
            return None
        if not {outcome, outcome.kind} & visit.allowed(fault):
            return f"the visitor got {outcome}"
        gateway.injector.arm()
        if (await gateway.visit(visit.control)).kind != "served":
            return "the next visitor was not served"
        await gateway.rest()
    except (AssertionError, TimeoutError) as error:
        return repr(error)[:300]
    mistakes = [log for log in gateway.logs if log["log_level"] == "error"]
    return f"mistakes: {mistakes} {gateway.unhandled}"[:600] if mistakes or gateway.unhandled else ""
