"""Whatever a run refuses, it says what to do."""

from __future__ import annotations

import pytest
import yaml

from tools.reference import refusals
from tools.tree import ROOT

RULES = yaml.safe_load((ROOT / "roles" / "preflight" / "vars" / "main.yml").read_text())


@pytest.mark.parametrize("stage", ["inventory", "host"])
def test_each_rule_has_a_remedy(stage: str) -> None:
    texts = [rule["otherwise"] for rule in RULES[f"_preflight_{stage}_rules"]]
    # What is set twice says all of it itself, and is on the page as it says it.
    silent = [text for text in texts if not list(refusals.messages(iter([text]))) and "settings_set_twice" not in text]
    assert silent == []


def test_messages_of_modules_are_found() -> None:
    controller = dict(refusals.sections())["The controller"]
    assert ("there is no command uv, beside Ansible or on PATH", "pip install uv") in controller
    assert ("there is no collection …", "ansible-galaxy collection install …") in controller
