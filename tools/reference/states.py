"""``docs/explanation/states.md``: the state machines of the daemon, from their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from itertools import groupby
from typing import Any

from tfgateway.proxy.connection import states as connection
from tfgateway.tunnel.session import states as session

from tools.reference.markdown import table
from tools.reference.settings import field_docs

HEAD = """# States

A connection of the proxy and a session of a tunnel are state machines. Each changes its state by its table alone, and
this page is rendered from the same tables.
"""
MACHINES: tuple[tuple[str, str, Any], ...] = (
    ("A connection of the proxy", "`tfgateway.proxy.connection.connection:Connection`", connection),
    ("A session of a tunnel", "`tfgateway.tunnel.session.session:Session`", session),
)
"""Title, class, and the module with ``State``, ``Event`` and ``TRANSITIONS``."""


def render() -> str:
    """The whole page."""
    return HEAD + "".join(_machine(title, of, module) for title, of, module in MACHINES)


def _machine(title: str, of: str, module: Any) -> str:
    diagram = "\n".join(_arrows(module.TRANSITIONS))
    states = [(f"`{state.name}`", field_docs(module.State)[state.name]) for state in module.State]
    events = [(_name(event), field_docs(module.Event)[event.name]) for event in module.Event]
    return (
        f"\n## {title}\n\n{of}, from `{module.__name__}`. It begins in `{next(iter(module.State)).name}`.\n"
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
