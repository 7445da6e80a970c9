"""What makes two reservations the same, what is asked of the daemon, and how long is waited."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import DaemonError
from ansible_collections.tfgrid.gateway.plugins.module_utils._reserve import OWN_OPTIONS, Reservations, comparable

NODE = "FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF"


def options(program: Path, **own: Any) -> dict[str, Any]:
    common = {"state": "present", "node": NODE, "explorer": "http://e", "seed": "/s", "program": str(program)}
    rest = {"wait": True, "timeout": 5, "description": "", "pool": None}
    return {**dict.fromkeys(OWN_OPTIONS), **common, **rest, **own}


def line(number: int, **members: Any) -> dict[str, Any]:
    common = {"type": "subdomain", "domain": "www.gw1.example", "node_id": NODE, "data": {}, "status": "deployed"}
    return {"id": number, **common, **members}


class Daemon:
    """Answers like the command line, one answer after the other."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []
        self.now = 0.0
        self.clock = SimpleNamespace(time=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self, argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        self.asked.append(argv[6:])
        return 0, json.dumps(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]), ""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "tfgateway"
    path.touch()
    return path


def test_addresses_are_the_same_however_they_are_written() -> None:
    assert comparable({"ips": ["2001:DB8:0::5", "203.0.113.5"]}) == comparable({"ips": ["203.0.113.5", "2001:db8::5"]})
    assert comparable({"ips": ["nonsense"], "secret": "x"}) == {"ips": ["nonsense"]}


def test_default_ports_of_a_proxy_are_compared(program: Path) -> None:
    wanted = options(program, type="proxy", domain="x", addr="203.0.113.9")
    proxies = Reservations(Daemon([]), wanted)
    assert proxies.same({"data": {"addr": "203.0.113.9", "port": 80, "port_tls": 443}})
    assert not proxies.same({"data": {"addr": "203.0.113.9", "port": 8080, "port_tls": 443}})


def test_only_the_living_of_this_name_type_and_gateway_match(program: Path) -> None:
    others = [
        line(2, status="failed"),
        line(3, domain="other.gw1.example"),
        line(4, type="proxy"),
        line(5, node_id="elsewhere"),
        line(6, status="deleting"),
    ]
    daemon = Daemon([line(1, domain="WWW.gw1.example"), *others])
    wanted = options(program, type="subdomain", domain="www.gw1.example", ips=["203.0.113.5"])
    assert [found["id"] for found in Reservations(daemon, wanted).matching()] == [1]


def test_options_become_arguments_and_never_options_of_another_kind(program: Path) -> None:
    daemon = Daemon({"id": 7})
    wanted = options(program, type="proxy", domain="--help", addr="203.0.113.9", port=0, description="-x", pool=3)
    assert Reservations(daemon, wanted).create() == 7
    (asked,) = daemon.asked
    own = ["--domain=--help", "--addr=203.0.113.9", "--port=0"]
    assert asked == ["create", "proxy", "--node", NODE, *own, "--description=-x", "--pool=3", "--json"]


def test_a_deletion_is_waited_for_and_given_up_in_words(program: Path) -> None:
    wanted = options(program, type="subdomain", domain="www.gw1.example")
    daemon = Daemon([], [line(1, status="deleting")], [line(1, status="deleted")])
    Reservations(daemon, wanted, daemon.clock).delete([line(1)])
    assert daemon.now == 0.5
    stuck = Daemon([], [line(1, status="deleting")])
    with pytest.raises(DaemonError, match="not removed after 5 s: 1"):
        Reservations(stuck, wanted, stuck.clock).delete([line(1)])
