# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the modules said about each gateway, made into one report of the fleet (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

VERDICTS = ("in_sync", "pending", "unreported", "drifted", "missing", "orphaned", "failed", "target_down")
# Verdicts of a healthy gateway: what users may see for a moment, what they asked for in vain, and what they broke.
_HARMLESS = ("in_sync", "pending", "unreported", "failed", "target_down")
_PLANES = {"dns": "DNS", "fourtosix": "4to6"}  # as an operator calls them
_SILENCE = 180.0  # seconds without a poll after which an operator should look


def report(looks: Sequence[Mapping[str, Any]], now: float) -> dict[str, Any]:
    """The report of a fleet, plain values only.

    looks: one a gateway: ``name``; results of the modules as ``info``, ``state``, ``plan`` as far as they came, each
    possibly failed or unreachable. now: Unix seconds.
    """
    nodes = [_node(look) for look in looks]
    verdicts = Counter(dict.fromkeys(VERDICTS, 0))
    for node in nodes:
        verdicts.update(node["verdicts"])
    return {
        "generated": datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "healthy": all(node["status"] == "ok" for node in nodes),
        "statuses": {status: sum(node["status"] == status for node in nodes) for status in ("ok", "attention", "down")},
        "versions": dict(Counter(node["version"] for node in nodes if node["version"])),
        "verdicts": dict(verdicts),
        "reservations": sum(verdicts.values()),
        "tunnels": sum(node["tunnels"] for node in nodes),
        "peers": sum(node["peers"] for node in nodes),
        "peers_alive": sum(node["peers_alive"] for node in nodes),
        "oldest_poll": max((node["poll_age"] for node in nodes if node["poll_age"] is not None), default=None),
        "nodes": nodes,
    }


def _node(look: Mapping[str, Any]) -> dict[str, Any]:
    info, state, plan = (_usable(look.get(part)) for part in ("info", "state", "plan"))
    status = state.get("reconciler") or {}
    metrics = {name: value for plane in info.get("planes", []) for name, value in plane["metrics"].items()}
    reservations = state.get("reservations", [])
    steps = [*plan.get("steps", []), *plan.get("held_steps", [])]
    node = {
        "name": look["name"],
        "version": info.get("version", ""),
        "node_id": info.get("node_id", ""),
        "farm_id": info.get("farm_id", 0),
        "managed_domains": info.get("managed_domains", []),
        "planes": [
            {"name": _PLANES.get(plane["name"], plane["name"]), "answers": plane["answers"]}
            for plane in info.get("planes", [])
        ],
        "reservations": len(reservations),
        "verdicts": dict(Counter(one["verdict"] for one in reservations)),
        "not_in_sync": [one for one in reservations if one["verdict"] != "in_sync"],
        "problems": list(state.get("problems", [])),
        "notes": list(state.get("notes", [])),
        "group": _group(info.get("group")),
        "drift": [_step(step) for step in steps],
        "repaired": bool(steps) and bool(plan.get("repaired")),
        "poll_age": _age(info, status, "last_poll"),
        "success_age": _age(info, status, "last_success"),
        "last_error": status.get("last_error", ""),
        "clock": status.get("clock", ""),
        "held": status.get("held", ""),
        "outbox": status.get("outbox", 0),
        "repaired_since_start": status.get("repaired", 0),
        "tunnels": int(metrics.get("tfgateway_tunnels", 0)),
        "peers": int(metrics.get("tfgateway_fourtosix_peers", 0)),
        "peers_alive": int(metrics.get("tfgateway_fourtosix_peers_alive", 0)),
    }
    errors = [_error(look.get(part)) for part in ("info", "state", "plan")]
    node["reasons"] = list(dict.fromkeys(filter(None, errors))) or _reasons(node)
    node["status"] = "down" if not info or not state else "attention" if node["reasons"] else "ok"
    return node


def _group(state: Mapping[str, Any] | None) -> str:
    """Where a gateway stands in its group; empty: it is in none."""
    if not state:
        return ""
    lag = "not connected" if state["lag"] is None else f"{state['lag']:.0f} s behind"
    return (
        f"led by {state['leader'] or 'nobody'}; redis: {state['role'] or 'does not answer'}, {lag}; "
        f"{state['agreeing']} of {state['sentinels']} Sentinels name {state['master'] or 'no master'}"
    )


def _reasons(node: Mapping[str, Any]) -> list[str]:
    """Why an operator should look at a gateway that answered; none: it is well."""
    silent = [plane["name"] for plane in node["planes"] if not plane["answers"]]
    wrong = {name: count for name, count in node["verdicts"].items() if name not in _HARMLESS}
    late = node["poll_age"] is None or node["poll_age"] > _SILENCE
    return [
        *([f"does not answer: {', '.join(silent)}"] if silent else []),
        *([", ".join(f"{count} {name}" for name, count in wrong.items())] if wrong else []),
        *(
            [f"{len(node['drift'])} step{'' if len(node['drift']) == 1 else 's'} to do"]
            if node["drift"] and not node["repaired"]
            else []
        ),
        *(
            ["the explorer was never asked" if node["poll_age"] is None else "the last poll is long ago"]
            if late
            else []
        ),
        *([f"removals are held back: {node['held']}"] if node["held"] else []),
        *([node["last_error"]] if node["last_error"] else []),
        *([node["clock"]] if node["clock"] else []),
        *node["problems"],
    ]


def _usable(result: Any) -> Mapping[str, Any]:
    """A module's result, empty when it did not come to one."""
    if not isinstance(result, Mapping) or result.get("unreachable") or result.get("skipped"):
        return {}
    return {} if result.get("failed") and "steps" not in result and "reservations" not in result else result


def _error(result: Any) -> str:
    if not isinstance(result, Mapping) or not (result.get("unreachable") or result.get("failed")):
        return ""
    text = " ".join(str(result.get("msg", "failed")).split())
    return f"unreachable: {text}" if result.get("unreachable") else text


def _age(info: Mapping[str, Any], status: Mapping[str, Any], name: str) -> float | None:
    """Seconds by the node's own clock; None: never."""
    return max(info["time"] - status[name], 0.0) if info.get("time") and status.get(name) else None


def _step(step: Mapping[str, Any]) -> str:
    what = " ".join(step[name] for name in ("action", "id", "type", "domain") if step.get(name))
    return f"{what}: {step['message']}" if step.get("message") else what


def in_words(seconds: float | None) -> str:
    """``3 s``, ``5 min``, ``2 h``, ``4 d`` or ``never``."""
    if seconds is None:
        return "never"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(made: Mapping[str, Any]) -> str:
    """A report as text: a line a gateway, then what is wrong, then the sum."""
    head = ("gateway", "status", "version", "planes", "reservations", "drift", "tunnels", "4to6", "last poll")
    rows = [head, *(_row(node) for node in made["nodes"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines += [f"{node['name']}: {reason}" for node in made["nodes"] for reason in node["reasons"]]
    lines += [f"{node['name']}: group: {node['group']}" for node in made["nodes"] if node["group"]]
    lines += [f"{node['name']}: note: {note}" for node in made["nodes"] for note in node["notes"]]
    total = ", ".join(f"{count} {verdict}" for verdict, count in made["verdicts"].items() if count)
    nodes = ", ".join(f"{count} {status}" for status, count in made["statuses"].items() if count)
    lines.append(
        f"{len(made['nodes'])} gateways: {nodes or 'none'}; {made['reservations']} reservations: {total or 'none'}"
    )
    return "\n".join(map(_plain, lines))


def _row(node: Mapping[str, Any]) -> tuple[str, ...]:
    if node["status"] == "down":
        return (node["name"], "down", node["version"], "", "", "", "", "", "")
    answering = sum(plane["answers"] for plane in node["planes"])
    verdicts = ", ".join(f"{node['verdicts'][name]} {name}" for name in VERDICTS if node["verdicts"].get(name))
    drift = f"{len(node['drift'])}{' repaired' if node['repaired'] else ''}"
    return (
        node["name"],
        node["status"],
        node["version"],
        f"{answering}/{len(node['planes'])}",
        verdicts or "none",
        drift,
        str(node["tunnels"]),
        f"{node['peers_alive']}/{node['peers']}",
        in_words(node["poll_age"]),
    )


def _plain(text: str) -> str:
    """In a terminal, what somebody else wrote moves no cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
