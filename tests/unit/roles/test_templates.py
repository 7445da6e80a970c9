"""Templates that the module ``files`` writes: the same text as ``ansible.builtin.template`` writes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEMPLATE = """# {{ ansible_managed }}
{% include "part.j2" %}

{{ given }} {{ "a\\\\b" }} {{ ["list"] }} {{ true }} {{ kept }}
{% if true %}
[a line like a list]
{% endif %}

"""
HERE = {
    "ansible_connection": "local",
    "ansible_python_interpreter": sys.executable,
    "back": "a\\b {{ 'x' }}",
    "kept": "of the task",
}


def test_a_template_is_rendered_as_by_ansible_itself(playbook: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "part.j2").write_text("part {{ given }}")
    source = tmp_path / "whole.j2"
    source.write_text(TEMPLATE)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    entry = {"path": str(ours), "template": str(source), "vars": {"given": "{{ back }}"}}
    left_out = {"path": str(tmp_path / "left-out"), "template": "no-such-template.j2", "wanted": "{{ 1 == 2 }}"}
    copy = {"src": str(source), "dest": str(theirs), "mode": "0644"}
    tasks = [
        {"name": "Ours", "tfgrid.gateway.files": {"files": [entry, left_out]}},
        {"ansible.builtin.template": copy, "vars": {"given": "{{ back }}"}},
    ]
    run = playbook(tasks, {"node": HERE})
    assert run.code == 0, run.output
    assert run.tasks["Ours"]["node"]["changed_paths"] == [str(ours)]
    assert ours.read_text() == theirs.read_text()
    assert "part a\\b x" in ours.read_text()
    assert ours.read_text().endswith("[a line like a list]\n\n")
    again = playbook(tasks[:1], {"node": HERE}, "--check")
    assert again.stats["node"]["changed"] == 0


def test_a_template_that_is_not_there_is_named(playbook: Callable[..., Any], tmp_path: Path) -> None:
    entry = {"path": str(tmp_path / "a"), "template": "no-such-template.j2"}
    run = playbook([{"name": "Ours", "tfgrid.gateway.files": {"files": [entry]}}], {"node": HERE})
    assert "no-such-template.j2" in run.message("Ours", "node")
