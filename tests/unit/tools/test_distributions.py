"""What is said and kept of the distributions that ran, and of those that could not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testbed.containers import fleet, image
from testbed.errors import FleetError
from tools import distributions
from tools.parts import Outcome

PART = distributions.PARTS[0]
ROOT = Path(__file__).resolve().parents[3]


def outcome(*, passed: bool = True) -> Outcome:
    return Outcome(PART, passed, 1.0, 1.0, "")


@pytest.fixture(autouse=True)
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(image.REGISTRY_VARIABLE, raising=False)


def test_what_has_no_image_here_is_named_with_the_reason() -> None:
    said = list(distributions.report([outcome(passed=False)]))
    assert "  FAILED   debian-13 (Debian's packages) by molecule-distributions" in said
    left_out = [line for line in said if line.startswith("  not run")]
    assert left_out[0].split()[2] == "ubuntu-18.04:"
    assert len(left_out) == 6
    assert all(image.REGISTRY_VARIABLE in line for line in left_out)


def test_a_registry_brings_the_others_in(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "molecule" / "distributions" / "fleet.toml"
    assert {node.system for node in fleet.load(path).nodes} == {"debian-11", "debian-13"}
    monkeypatch.setenv(image.REGISTRY_VARIABLE, "registry.example/library")
    assert fleet.load(path) == fleet.load_all(path)
    assert not any("not run" in line for line in distributions.report([outcome()]))


def test_a_system_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text((ROOT / "molecule" / "distributions" / "fleet.toml").read_text().replace("debian-11", "debian-1"))
    with pytest.raises(FleetError, match="no system debian-1, only debian-11, "):
        fleet.load(path)


def test_what_was_found_is_kept_beside_what_was_found_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, record = tmp_path / "facts.json", tmp_path / "record.json"
    monkeypatch.setattr(distributions, "FACTS", facts)
    monkeypatch.setattr(distributions, "RECORD", record)
    monkeypatch.setattr(distributions, "ROOT", tmp_path)
    assert distributions.record([outcome()]) == ""  # nothing was found
    record.write_text(json.dumps({"ubuntu": {"systemd": "255"}, "debian": {"systemd": "252"}}))
    facts.write_text(json.dumps([{"name": "debian", "systemd": "257"}]))
    assert distributions.record([outcome(passed=False)]) == ""
    assert distributions.record([outcome()]) == "record.json"
    assert json.loads(record.read_text()) == {"ubuntu": {"systemd": "255"}, "debian": {"systemd": "257"}}
    assert distributions.record([outcome()]) == ""
