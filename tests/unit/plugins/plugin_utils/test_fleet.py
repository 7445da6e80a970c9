"""The report of a fleet in each state, as data, as text and as a page that a hostile name cannot break out of."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._fleet import in_words, report, table
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._page import page

NOW = 1_789_000_000.0
NODE = "FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF"
HOSTILE = "<script>alert('&\"')</script>\x1b[2J"


def reservation(number: int, verdict: str, **members: Any) -> dict[str, Any]:
    common = {"type": "subdomain", "domain": f"n{number}.gw1.example", "user": "7", "message": ""}
    return {"id": f"{number}-1", "verdict": verdict, **common, **members}


def look(
    name: str, *reservations: dict[str, Any], silent: str = "", polled: float = 4, **status: Any
) -> dict[str, Any]:
    metrics = {"tfgateway_tunnels": 2.0, "tfgateway_fourtosix_peers": 3.0, "tfgateway_fourtosix_peers_alive": 1.0}
    planes = [
        {"name": plane, "answers": plane != silent, "metrics": metrics if plane == "proxy" else {}}
        for plane in ("reconciler", "dns", "proxy", "fourtosix")
    ]
    info = {"version": "0.1.0+abc", "node_id": NODE, "farm_id": 1, "managed_domains": ["gw1.example"], "time": NOW}
    reconciler = {"last_poll": NOW - polled, "last_success": NOW - polled, "last_error": "", "outbox": 0, **status}
    return {
        "name": name,
        "info": {**info, "planes": planes},
        "state": {"reservations": list(reservations), "problems": [], "reconciler": reconciler},
    }


STEP = {"action": "repair", "id": "4-1", "type": "subdomain", "domain": "n4.gw1.example", "message": ""}
WELL = look("gw-1", reservation(1, "in_sync"), reservation(2, "pending"), reservation(3, "failed", message="refused"))
CASES = {
    "ok": WELL,
    "target-down": look("gw-11", reservation(5, "target_down", message="its target does not answer")),
    "drifted": look("gw-2", reservation(4, "drifted", message="redis holds other rows")),
    "silent-plane": look("gw-3", silent="dns"),
    "late": look("gw-4", polled=4000),
    "held": look("gw-5", held="11 of 12 reservations would be removed"),
    "plan": {**look("gw-6"), "plan": {"steps": [STEP], "held_steps": []}},
    "repaired": {**look("gw-7"), "plan": {"steps": [STEP], "held_steps": [], "repaired": True}},
    "unreachable": {"name": "gw-8", "info": {"unreachable": True, "msg": "Connection\n timed out"}},
    "not-provisioned": {"name": "gw-9", "info": {"failed": True, "msg": "this node is not provisioned"}},
    "never-looked-at": {"name": "gw-10"},
}


@pytest.mark.parametrize(
    ("case", "status", "reason"),
    [
        ("ok", "ok", ""),
        ("target-down", "ok", ""),
        ("drifted", "attention", "1 drifted"),
        ("silent-plane", "attention", "does not answer: DNS"),
        ("late", "attention", "the last poll is long ago"),
        ("held", "attention", "removals are held back: 11 of 12"),
        ("plan", "attention", "1 step to do"),
        ("repaired", "ok", ""),
        ("unreachable", "down", "unreachable: Connection timed out"),
        ("not-provisioned", "down", "this node is not provisioned"),
        ("never-looked-at", "down", ""),
    ],
)
def test_each_state_of_a_gateway_is_told_with_its_reason(case: str, status: str, reason: str) -> None:
    made = report([CASES[case]], NOW)
    (node,) = made["nodes"]
    assert node["status"] == status
    assert reason in "; ".join(node["reasons"])
    assert made["healthy"] is (status == "ok")
    assert json.loads(json.dumps(made)) == made


def test_the_fleet_is_the_sum_of_its_gateways() -> None:
    made = report(list(CASES.values()), NOW)
    assert made["statuses"] == {"ok": 3, "attention": 5, "down": 3}
    assert made["verdicts"]["in_sync"] == made["verdicts"]["drifted"] == 1
    assert (made["reservations"], made["tunnels"], made["peers"], made["peers_alive"]) == (5, 16, 24, 8)
    assert made["oldest_poll"] == 4000
    assert made["generated"] == "2026-09-10T00:26:40Z"


def test_the_table_has_a_line_a_gateway_and_says_what_is_wrong() -> None:
    assert "1 target_down" in table(report([CASES["target-down"]], NOW))
    lines = table(report([WELL, CASES["drifted"], CASES["unreachable"]], NOW)).splitlines()
    assert lines[0].startswith("gateway  status     version    planes  reservations")
    assert "1 in_sync, 1 pending, 1 failed" in lines[1]
    assert lines[3].split() == ["gw-8", "down"]
    assert "gw-8: unreachable: Connection timed out" in lines
    assert (
        lines[-1] == "3 gateways: 1 ok, 1 attention, 1 down; 4 reservations: 1 in_sync, 1 pending, 1 drifted, 1 failed"
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "never"), (3.4, "3 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (9e5, "10 d")]
)
def test_ages_in_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words


class Tags(HTMLParser):
    """Every element that a browser would make, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _value in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_that_a_stranger_wrote_becomes_a_part_of_the_page() -> None:
    wrong = reservation(1, "drifted", domain=HOSTILE, message=HOSTILE, user=HOSTILE, type=HOSTILE)
    hostile = {**look(HOSTILE, wrong, last_error=HOSTILE), "plan": {"steps": [STEP | {"domain": HOSTILE}]}}
    hostile["info"] |= {"version": HOSTILE, "node_id": HOSTILE, "managed_domains": [HOSTILE]}
    hostile["info"]["planes"][0]["name"] = HOSTILE
    hostile["state"]["problems"] = [HOSTILE]
    made = report([hostile], NOW)
    plain = page(report([CASES["plan"], CASES["drifted"], CASES["silent-plane"]], NOW))
    found, expected = Tags(), Tags()
    found.feed(page(made))
    expected.feed(plain)
    assert found.tags <= expected.tags
    assert found.attributes <= expected.attributes
    assert found.text.count(HOSTILE) >= 10
    assert "\x1b" not in table(made)


def test_a_note_is_shown_and_the_gateway_is_well() -> None:
    noted = look("gw-1")
    noted["state"]["notes"] = ["redis lets every program in"]
    made = report([noted], NOW)
    assert made["healthy"]
    assert "gw-1: note: redis lets every program in" in table(made).splitlines()


def test_a_member_of_a_group_says_where_it_stands() -> None:
    group = {"leader": "gw-a", "master": "192.0.2.1:6380", "role": "replica", "lag": 0.4, "sentinels": 3, "agreeing": 2}
    member = {**WELL, "info": {**WELL["info"], "group": {**group, "replicas": None}}}
    lone = {"leader": "", "master": "", "role": "", "lag": None, "sentinels": 3, "agreeing": 0, "replicas": None}
    lost = {**CASES["late"], "info": {**WELL["info"], "group": lone}}
    lines = table(report([member, lost, CASES["drifted"]], NOW)).splitlines()
    assert [line for line in lines if ": group: " in line] == [
        "gw-1: group: led by gw-a; redis: replica, 0 s behind; 2 of 3 Sentinels name 192.0.2.1:6380",
        "gw-4: group: led by nobody; redis: does not answer, not connected; 0 of 3 Sentinels name no master",
    ]


def test_the_page_needs_nothing_from_outside() -> None:
    made = page(report(list(CASES.values()), NOW))
    assert not re.search(r"https?:|src=|@import|url\(|<script|<link", made)
    assert "default-src 'none'" in made


def test_chromium_shows_the_page(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium here")
    source, picture = tmp_path / "report.html", tmp_path / "report.png"
    source.write_text(page(report(list(CASES.values()), NOW)))
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    shot = [f"--user-data-dir={tmp_path}/profile", "--window-size=1200,2200", f"--screenshot={picture}"]
    subprocess.run([browser, *quiet, *shot, source.as_uri()], capture_output=True, timeout=120, check=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    dom = [f"--user-data-dir={tmp_path}/profile", "--dump-dom", source.as_uri()]
    done = subprocess.run([browser, *quiet, *dom], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count('<section class="card attention">') == 5
    assert "2 of 10 gateways are healthy" in done.stdout
