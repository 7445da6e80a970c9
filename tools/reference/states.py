"""``docs/explanation/states.md``: the state machines of the daemon, from their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from itertools import groupby
from typing import Any, NamedTuple

from tfgateway.proxy.connection import states as connection
from tfgateway.tunnel.session import states as session

from tools.reference.markdown import table
from tools.reference.settings import field_docs

HEAD = """# States

A connection of the proxy and a session of a tunnel are state machines. Each changes its state by its table alone, and
this page is rendered from the same tables.
"""


class Machine(NamedTuple):
    """A state machine, and the class that has it."""

    title: str
    owner: str
    states: type[IntEnum]
    events: type[IntEnum]
    transitions: Mapping[Any, Mapping[Any, Any]]


MACHINES = (
    Machine(
        "A connection of the proxy",
        "`tfgateway.proxy.connection.connection:Connection`",
        connection.ConnectionState,
        connection.ConnectionEvent,
        connection.TRANSITIONS,
    ),
    Machine(
        "A session of a tunnel",
        "`tfgateway.tunnel.session.session:Session`",
        session.SessionState,
        session.SessionEvent,
        session.TRANSITIONS,
    ),
)


def render() -> str:
    """The whole page."""
    return HEAD + "".join(map(_section, MACHINES))


def _section(machine: Machine) -> str:
    diagram = "\n".join(_arrows(machine.transitions))
    states = [(f"`{state.name}`", field_docs(machine.states)[state.name]) for state in machine.states]
    events = [(_name(event), field_docs(machine.events)[event.name]) for event in machine.events]
    module, first = machine.states.__module__, next(iter(machine.states)).name
    return (
        f"\n## {machine.title}\n\n{machine.owner}, from `{module}`. It begins in `{first}`.\n"
        f"\n```text\n{diagram}\n```\n\n{table(('State', 'Meaning'), states)}\n{table(('Event', 'Meaning'), events)}"
    )


def _arrows(transitions: Mapping[IntEnum, Mapping[IntEnum, IntEnum]]) -> Iterator[str]:
    """One line for each state and each state that follows it, with the events that lead there."""
    steps = sorted((state, after, event) for event, row in transitions.items() for state, after in row.items())
    lines = [
        (state.name, ", ".join(_name(event) for _, _, event in group), after.name)
        for (state, after), group in groupby(steps, key=lambda step: step[:2])
    ]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for state, label, after in lines:
        yield f"{state:<{widths[0]}} --{f' {label} ':-<{widths[1] + 2}}--> {after}"


def _name(event: IntEnum) -> str:
    return event.name.lower().replace("_", " ")
