"""What ``ansible-doc`` shows: complete, with examples that modules accept and samples of the promised types."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("module", "filter", "inventory", "lookup")
TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
PLUGINS = {
    kind: sorted(
        path.stem
        for path in (ROOT / "plugins" / (kind if kind != "module" else "modules")).glob("*.py")
        if not path.stem.startswith("_")
    )
    for kind in KINDS
}
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
EVERY = [(kind, name) for kind in KINDS for name in PLUGINS[kind]]

every_plugin = pytest.mark.parametrize(("kind", "name"), EVERY, ids=[name for kind, name in EVERY])
every_module = pytest.mark.parametrize("name", PLUGINS["module"])


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By kind, what ``ansible-doc --json`` says of each plugin and role."""
    collections = tmp_path_factory.mktemp("collections")
    link = collections / "ansible_collections" / "tfgrid" / "gateway"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections)}
    program = str(Path(sys.executable).with_name("ansible-doc"))

    def ask(kind: str, names: list[str]) -> dict[str, Any]:
        command = [program, "--json", "--type", kind, *(f"tfgrid.gateway.{name}" for name in names)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {name.rpartition(".")[2]: said for name, said in json.loads(done.stdout).items()}

    return {kind: ask(kind, names) for kind, names in [*PLUGINS.items(), ("role", ROLES)]}


def typed(value: Any, kind: str) -> bool:
    """Whether ``value`` is of that type; in Python, booleans are numbers too."""
    wanted = (int, float) if kind == "float" else TYPES[kind]
    return isinstance(value, wanted) and (kind == "bool" or not isinstance(value, bool))


@every_plugin
def test_it_is_documented(documented: dict[str, dict[str, Any]], kind: str, name: str) -> None:
    said = documented[kind][name]
    assert said["doc"]["version_added"]
    assert not said["doc"]["short_description"].endswith(".")
    assert said["examples"].strip()
    described = [said["doc"]["description"], *(option["description"] for option in said["doc"]["options"].values())]
    sentences = [line for text in described for line in ([text] if isinstance(text, str) else text)]
    assert [sentence for sentence in sentences if not re.search(r"[.)]$", sentence)] == []


@every_module
def test_a_module_says_what_it_supports(documented: dict[str, dict[str, Any]], name: str) -> None:
    attributes = documented["module"][name]["doc"]["attributes"]
    assert {"check_mode", "diff_mode", "platform"} <= attributes.keys()
    # A module that only looks has nothing to differ.
    assert attributes["diff_mode"]["support"] == "full" or "changes nothing" in attributes["diff_mode"]["details"]


@every_module
def test_its_examples_are_tasks_that_it_accepts(documented: dict[str, dict[str, Any]], name: str) -> None:
    options = documented["module"][name]["doc"]["options"]
    tasks = yaml.safe_load(documented["module"][name]["examples"])
    calls = [task[f"tfgrid.gateway.{name}"] or {} for task in tasks if f"tfgrid.gateway.{name}" in task]
    assert calls
    for call in calls:
        assert call.keys() <= options.keys()
        assert {option for option, said in options.items() if said.get("required")} <= call.keys()
        for option, value in call.items():
            if "{{" not in str(value):
                assert value in options[option].get("choices", [value]) or isinstance(value, list), option


@every_plugin
def test_samples_have_the_types_that_are_promised(documented: dict[str, dict[str, Any]], kind: str, name: str) -> None:
    for key, said in (documented[kind][name]["return"] or {}).items():
        assert typed(said["sample"], said["type"]), key
        for item in said["sample"] if said["type"] == "list" else [said["sample"]]:
            if "elements" in said:
                assert typed(item, said["elements"]), key
            if "contains" in said:
                assert item.keys() <= said["contains"].keys(), key
                for member, value in item.items():
                    assert value is None or typed(value, said["contains"][member]["type"]), member


@pytest.mark.parametrize("name", ROLES)
def test_every_entry_point_of_a_role_is_described(documented: dict[str, dict[str, Any]], name: str) -> None:
    points = documented["role"][name]["entry_points"]
    assert "main" in points
    for point in points.values():
        assert not point["short_description"].endswith(".")
        assert [option for option, said in point.get("options", {}).items() if not said.get("description")] == []
    specs = yaml.safe_load((ROOT / "roles" / name / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    assert all(point["version_added"] for point in specs.values())
