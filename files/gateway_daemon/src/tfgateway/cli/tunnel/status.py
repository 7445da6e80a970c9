"""How a tunnel client stands, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tfgateway.telemetry import logs
from tfgateway.telemetry.text import printable
from tfgateway.tunnel.client.model import Phase, RemoteStatus

_COLOURS = {
    Phase.CONNECTED: "green",
    Phase.CONNECTING: "yellow",
    Phase.WAITING: "yellow",
    Phase.RETRYING: "red",
    Phase.ENDED: "red",
}
_COLUMNS = ("gateway", "state", "visitors", "now", "failed", "received", "sent", "")

_log = logs.logger("tunnel")


def log_change(status: RemoteStatus) -> None:
    """A line in the log."""
    known = {"remote": status.remote} | ({"name": status.name} if status.name else {})
    if status.reason:
        known["reason"] = printable(status.reason)
    if status.phase is Phase.RETRYING:
        known["retry_in"] = f"{status.retry_in:.1f}s"
    _log.info(status.phase, **known)


def as_data(status: RemoteStatus) -> dict[str, object]:
    """For programs."""
    data: dict[str, object] = {"name": status.name} if status.name else {}
    data |= {
        "remote": status.remote,
        "phase": status.phase,
        "sessions": status.sessions,
        "visitors": status.visitors,
        "active": status.active,
        "failed": status.failed,
        "received": status.received,
        "sent": status.sent,
        "replaced": status.replaced,
        "last_visit": round(status.last_visit),
        "round_trip": round(status.round_trip, 6),
        "outcome": status.outcome,
    }
    if status.reason:
        data["reason"] = printable(status.reason)
    if status.phase is Phase.RETRYING:
        data["retry_in"] = round(status.retry_in, 1)
    return data


def table(statuses: Sequence[RemoteStatus]) -> Table:
    """For people: a line for each tunnel."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    named = any(one.name for one in statuses)
    for title in ("tunnel",) * named + _COLUMNS:
        shown.add_column(title)
    for one in statuses:
        numbers = (str(one.visitors), str(one.active), str(one.failed), decimal(one.received), decimal(one.sent))
        note = ""
        if one.phase is Phase.RETRYING:
            note = f"{printable(one.reason)}; next attempt after {one.retry_in:.1f} s"
        elif one.phase is Phase.ENDED:
            note = printable(one.reason)
        elif one.phase is Phase.WAITING:
            note = "the gateway does not know this secret yet"
        elif one.round_trip:
            note = f"round trip {one.round_trip * 1000:.1f} ms"
        state = Text(one.phase, style=_COLOURS[one.phase])
        shown.add_row(*(one.name,) * named, one.remote, state, *numbers, note)
    return shown
