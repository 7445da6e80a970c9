"""Module ``admission`` with a real explorer, whose registration is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfgateway.identity.keys import Identity

from tests.integration.plugins.conftest import PROGRAM
from tests.support import ansible_module

NODE = Identity.from_seed(b"n" * 32).node_id
ADMITTED = {"farm_id": 1, "node_id": NODE, "managed_domains": ["a.example", "b.example"]}


def admission(world: Any, **params: Any) -> dict[str, Any]:
    given = {"explorer": world.explorer.url, "seed": str(world.user_seed), "farm": 1, "node": NODE, "program": PROGRAM}
    return ansible_module.run("admission", world.directory, **{**given, **params})


def listed(world: Any) -> list[dict[str, Any]]:
    return [one for one in world.reserve("farm", "list", "--farm", "1") if one["node_id"] == NODE]


def test_consent_is_given_changed_and_taken_back(world: Any) -> None:
    domains = {"managed_domains": ["B.example", "a.example"]}
    for check in (True, False):
        foreseen = admission(world, **domains, check=check, diff=True)
        assert (foreseen["changed"], foreseen["managed_domains"]) == (True, ["a.example", "b.example"])
        assert foreseen["diff"] == {"before": "not admitted\n", "after": "admitted\na.example\nb.example\n"}
        assert listed(world) == ([] if check else [ADMITTED])
    assert not admission(world, **domains)["changed"]
    fewer = admission(world, managed_domains=["a.example"], diff=True)
    assert (fewer["changed"], fewer["diff"]["after"]) == (True, "admitted\na.example\n")
    assert admission(world, state="absent", check=True)["changed"]
    assert listed(world) == [{**ADMITTED, "managed_domains": ["a.example"]}]
    assert admission(world, state="absent")["managed_domains"] is None
    assert not admission(world, state="absent")["changed"]
    assert listed(world) == []


def test_whose_farm_it_is_not_is_told_so(world: Any, tmp_path: Path) -> None:
    world.reserve("register", "--name", "mallory", "--email", "m@example.com", "--output", str(tmp_path / "m.seed"))
    refused = admission(world, seed=str(tmp_path / "m.seed"))
    assert refused["failed"]
    assert "only the owner of a farm decides which gateways it admits" in refused["msg"]
    assert str(tmp_path / "m.seed") not in str(refused)
    away = admission(world, explorer="http://127.0.0.1:1", check=True)
    assert away["failed"]
    assert "127.0.0.1:1" in away["msg"]
