"""Renders a plan as text, Markdown and plain data, for ``tfgateway reconcile --dry-run`` (pure)."""

from __future__ import annotations

import re
from typing import Any

from tfgateway.reconciler.planning.model import HeldRemovals, Plan, Step
from tfgateway.telemetry.text import printable

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#|!~&]")


def step_line(step: Step) -> str:
    """One line for people."""
    what = " ".join(part for part in (step.id, step.type, printable(step.domain)) if part)
    user = f" of user {step.user}" if step.user else ""
    why = f": {printable(step.message)}" if step.message else ""
    return f"{step.action:<7} {what}{user}{why}"


def held_reason(held: HeldRemovals | None) -> str:
    """Why removals are held back, and how to allow them; empty: they are not."""
    if held is None:
        return ""
    others = f" and {held.unowned} orphans" if held.unowned else ""
    before = f" after {held.gone} within the hour" if held.gone else ""
    return (
        f"{len(held.steps) - held.unowned} of {held.recorded} reservations{others} would be removed{before} "
        f"and at most {held.allowed} may be: `tfgateway reconcile --allow-removals` if this is meant"
    )


def as_text(plan: Plan) -> str:
    """The plan for people; the last line is the sum."""
    lines = [step_line(step) for step in plan.steps]
    lines += [f"problem {text}" for text in plan.problems]
    lines += [f"held    {held_reason(plan.held)}"] if plan.held else []
    lines += [f"held    {step_line(step)}" for step in plan.held_steps]
    lines += [f"orphan  {step_line(step)}" for step in plan.orphans]
    return "\n".join([*lines, _sum(plan)])


def as_markdown(plan: Plan) -> str:
    """The plan as a table, then problems: for a ticket or a chat."""
    lines = ["| action | reservation | type | domain | user | why |", "|---|---|---|---|---|---|"]
    for mark, steps in (("", plan.steps), ("held: ", plan.held_steps), ("orphan: ", plan.orphans)):
        for step in steps:
            cells = (mark + step.action, step.id, step.type, step.domain, step.user, step.message)
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    notes = [f"**Held back:** {_cell(held_reason(plan.held))}"] if plan.held else []
    notes += [f"**Problem:** {_cell(text)}" for text in plan.problems]
    notes.append(_sum(plan))
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def as_data(plan: Plan) -> dict[str, Any]:
    """The plan as plain data: JSON of ``tfgateway reconcile --dry-run --json``."""
    return {
        "steps": [_step_data(step) for step in plan.steps],
        "summary": plan.summary(),
        "problems": list(plan.problems),
        "held": held_reason(plan.held),
        "held_steps": [_step_data(step) for step in plan.held_steps],
        "orphans": [_step_data(step) for step in plan.orphans],
    }


def _step_data(step: Step) -> dict[str, Any]:
    """Plain values; rows by name only, since values may hold secrets."""
    rows = [f"{printable(row.key)} {printable(row.field or '')}".rstrip() for row in step.transaction.writes]
    return {
        "action": str(step.action),
        "id": step.id,
        "type": step.type,
        "domain": step.domain,
        "user": step.user,
        "message": step.message,
        "rows": rows,
    }


def _sum(plan: Plan) -> str:
    total = ", ".join(f"{count} {action}" for action, count in plan.summary().items())
    return f"{len(plan.steps)} steps{': ' + total if total else ''}"


def _cell(text: str) -> str:
    """Untrusted text as a cell of a table, without markup."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))
