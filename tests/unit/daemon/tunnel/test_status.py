"""What the client shows on a terminal."""

from __future__ import annotations

from rich.console import Console
from tfgateway.cli.tunnel.status import table
from tfgateway.tunnel.client.model import Phase, RemoteStatus


def shown(*statuses: RemoteStatus) -> list[str]:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table(statuses))
    return captured.get().splitlines()


def test_one_service_has_no_name() -> None:
    head, line = shown(RemoteStatus("gw.example:18000", phase=Phase.CONNECTED, visitors=3, active=1, round_trip=0.1014))
    assert head.split() == ["gateway", "state", "visitors", "now", "failed", "received", "sent"]
    assert line.split()[:5] == ["gw.example:18000", "connected", "3", "1", "0"]
    assert line.rstrip().endswith("round trip 101.4 ms")


def test_several_are_told_apart_and_a_reason_is_shown_without_control_characters() -> None:
    lost = RemoteStatus("gw.example:18000", "home", phase=Phase.RETRYING, reason="a\x1b[31mreason", retry_in=4.25)
    head, first, second = shown(lost, RemoteStatus("gw.example:18000", "blog", phase=Phase.ENDED, reason="revoked"))
    assert head.startswith("tunnel")
    assert first.startswith("home")
    assert "\x1b" not in first
    assert first.rstrip().endswith("next attempt after 4.2 s")
    assert second.startswith("blog")
    assert second.rstrip().endswith("revoked")
