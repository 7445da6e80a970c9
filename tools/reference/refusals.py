"""``docs/how-to/refusals.md``: what a run says before it changes anything, and what to do, from where it is said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.reference.markdown import table
from tools.tree import ROOT

HEAD = """# When a run is refused

A run looks at controller, inventory and each host before it changes anything, and says at once all that is wrong.
What is wrong with the controller or the inventory stops it for all hosts. A host that is refused leaves the run as it
was, and the others go on. Playbook `doctor` looks at controller and inventory alone, `preflight` at the hosts too.

`ansible-playbook` ends with

| Code | When |
|---|---|
| 0 | all hosts are done |
| 1 | nothing was run: there is no such playbook, or no host that `--limit` names |
| 2 | a host failed or was refused, or the controller or the inventory was; also an unknown option |
| 4 | a host could not be reached, whether or not others failed; also a file that is no YAML |

Commands of a node (`tfgateway ...`) end with 0: done, 1: failed, 2: wrong usage or configuration.

What stands for a value is `…`.
"""
ROLES = ROOT / "roles"
PLUGINS = ROOT / "plugins"
VALUE = "…"
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_SAYS = re.compile(r"[.;:]? It says: .*$")
_LAST = re.compile(r".*(?:: |; |\. )")
_FIRST = re.compile(r".*?: ")


def render() -> str:
    """The whole page."""
    return HEAD + "".join(f"\n## {title}\n\n{table(('It says', 'What to do'), rows)}" for title, rows in sections())


def sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Title, and messages with their remedies."""
    rules = _yaml(ROLES / "preflight" / "vars" / "main.yml")
    yield (
        "The controller",
        [
            *messages(_strings(PLUGINS / "plugin_utils" / "_controller.py")),
            *messages(_strings(ROLES / "release" / "files" / "prebuilt.py")),
        ],
    )
    yield (
        "The inventory",
        [
            *messages(rule["otherwise"] for rule in rules["_preflight_inventory_rules"]),
            *messages(_strings(PLUGINS / "plugin_utils" / "_settings.py")),
            (
                f"VARIABLE of HOST: {VALUE}",
                "give it a value as in [roles and variables](../reference/role-variables.md)",
            ),
        ],
    )
    yield "The way to a host", list(messages(_asserted("preflight", "connection")))
    yield "The host", list(messages(rule["otherwise"] for rule in rules["_preflight_host_rules"]))
    python = _yaml(ROLES / "interpreter" / "vars" / "main.yml")
    texts = (rule["otherwise"] for rule in python["_interpreter_rules"])
    yield "Its Python", list(messages(python.get(text.strip("{} "), text) for text in texts))
    lines = rules["_preflight_warnings"].splitlines()
    text = re.sub(r"\{%.*?%\}", "\n", " ".join(lines).replace("{{-", "{{"))
    warnings = (line for line in text.split("\n") if " " in line.strip())
    yield "Warnings of playbook `preflight`", list(messages(warnings, _FIRST))


def messages(texts: Iterator[str], separator: re.Pattern[str] = _LAST) -> Iterator[tuple[str, str]]:
    """Each in two: what is wrong, and after the separator what to do."""
    for text in texts:
        line = _SAYS.sub("", " ".join(_EXPRESSION.sub(_placeholder, text).split()))
        said = separator.match(line)
        if said and (remedy := line[said.end() :]).strip(f"{VALUE} "):
            yield said[0].rstrip(" :;"), remedy


def _placeholder(expression: re.Match[str]) -> str:
    return "HOST" if expression[0].strip("{} ") == "inventory_hostname" else VALUE


def _asserted(role: str, name: str) -> Iterator[str]:
    """What the assertions in a file of tasks say."""

    def walk(tasks: list[dict[str, Any]]) -> Iterator[str]:
        for task in tasks:
            yield from walk(task.get("block", []))
            yield from filter(None, [task.get("ansible.builtin.assert", {}).get("fail_msg")])

    return walk(_yaml(ROLES / role / "tasks" / f"{name}.yml"))


def _strings(path: Path) -> Iterator[str]:
    """The sentences that a module says, in the order of the file, with their values as Jinja has them."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    named = {
        node.targets[0].id: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.FormattedValue):
            value = named.get(node.value.id) if isinstance(node.value, ast.Name) else None
            return text(value) if isinstance(value, ast.JoinedStr | ast.Constant) else "{{ value }}"
        return "".join(map(text, node.values)) if isinstance(node, ast.JoinedStr) else str(getattr(node, "value", ""))

    # Parts of others, those that have a name, documentation, and mistakes of whoever calls.
    others = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    others |= {id(node.value) for node in nodes if isinstance(node, ast.Assign | ast.Expr)}
    others |= {id(part) for node in nodes if isinstance(node, ast.Raise) for part in ast.walk(node)}
    said = [node for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in others]
    for node in sorted(said, key=lambda one: (one.lineno, one.col_offset)):
        if len(sentence := text(node).split()) > 4:
            yield " ".join(sentence)


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())
