"""Booleans given as ``-e wireguard_enabled=false`` are text, and text is true: whoever uses one makes a boolean of it.

``argument_specs`` check such a value, and do not convert it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from jinja2 import nodes

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOKS = [ROOT / "site.yml", *sorted((ROOT / "playbooks").glob("*.yml"))]
TASKS = [*PLAYBOOKS, *sorted((ROOT / "playbooks").glob("*/**/*.yml"))]
FILES = [
    *TASKS,
    *(
        path
        for folder in ("tasks", "handlers", "templates", "defaults", "vars")
        for path in sorted((ROOT / "roles").glob(f"*/{folder}/**/*"))
        if path.suffix in {".yml", ".j2"}
    ),
]
# Keywords whose text is an expression without braces.
CONDITIONS = {"when", "that", "changed_when", "failed_when", "until"}


@functools.cache
def booleans() -> set[str]:
    """Names of the roles' arguments and the playbooks' variables that are booleans."""
    names = set()
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        options = yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
        names |= {name for name, option in options.items() if option["type"] == "bool"}
    for path in PLAYBOOKS:
        for play in yaml.safe_load(path.read_text()):
            # As `_backup: "{{ backup | default(false) | bool }}"`.
            for name, value in play.get("vars", {}).items():
                found = re.search(r"\b(\w+) \| default\((?:true|false)\)", str(value))
                names |= {name, found[1]} if found else set()
    return names


def expressions(value: Any, keyword: str = "") -> Iterator[str]:
    """Everything in a YAML document that Ansible evaluates, as text of a template."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from expressions(member, str(key))
    elif isinstance(value, list):
        for member in value:
            yield from expressions(member, keyword)
    elif isinstance(value, str):
        yield f"{{{{ {value} }}}}" if keyword in CONDITIONS else value


def bare(template: str, names: set[str]) -> Iterator[str]:
    """Those of ``names`` that ``template`` uses as they were given."""

    def walk(node: nodes.Node, converted: bool) -> Iterator[str]:
        if isinstance(node, nodes.Name) and node.name in names and not converted:
            yield node.name
        safe = isinstance(node, nodes.Filter) and (node.name == "bool" or (node.name == "default" and converted))
        safe = safe or (isinstance(node, nodes.Test) and node.name == "defined")
        for child in node.iter_child_nodes():
            yield from walk(child, safe)

    yield from walk(jinja2.Environment().parse(template), False)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # of regular expressions, as Ansible has them
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_makes_booleans_of_them(path: Path) -> None:
    templates = [path.read_text()] if path.suffix == ".j2" else expressions(yaml.safe_load(path.read_text()))
    assert [(name, template) for template in templates for name in bare(template, booleans())] == []


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ({"when": "on"}, ["on"]),
        ({"when": ["other", "not on"]}, ["on"]),
        ({"when": "on | default(false)"}, ["on"]),
        ({"block": [{"copy": {"content": "{% if on %}x{% endif %}"}}]}, ["on"]),
        ({"vars": {"x": "{{ toml(on) }}"}}, ["on"]),
        ({"when": "other | default(on)"}, ["on"]),
        ({"when": "not on | bool and on | default(false) | bool and on is defined"}, []),
        ({"name": "Switch on"}, []),
    ],
)
def test_a_use_without_the_filter_is_found(task: dict[str, Any], found: list[str]) -> None:
    assert [name for template in expressions(task) for name in bare(template, {"on"})] == found


def test_there_are_booleans() -> None:
    assert {"wireguard_enabled", "gateway_free_to_use", "reconcile_repair"} <= booleans()
