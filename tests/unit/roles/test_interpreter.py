"""When a node's own Python is used, and when one is brought."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]

ARCHIVES = {"x86_64": {"url": "file:///archive", "sha256": "a" * 64}}


def seen(own: str, brought: str = "no", **more: Any) -> dict[str, Any]:
    """What tasks/look.yml registers."""
    return {
        "_interpreter_look": {"stdout": f"machine=x86_64\r\nown={own}\r\nbrought={brought}\r\nlink=\r\n"},
        "interpreter_archives": ARCHIVES,
        **more,
    }


CASES = {
    "absent": seen(""),
    "bionic": seen("3.6.9"),
    "focal": seen("3.8.10"),
    "jammy": seen("3.10.12"),
    "bookworm": seen("3.11.2"),
    "noble": seen("3.12.3"),
    "trixie": seen("3.13.5"),
    "too-new": seen("3.14.0"),
    "brought-before": seen("3.11.2", "yes"),
    "asked-for": seen("3.11.2", interpreter_python="bundled"),
    "by-gateway-python": seen("3.6.9", gateway_python="system"),
    "named": seen("3.6.9", ansible_python_interpreter="/opt/bionic/python/bin/python3.6"),
    "named-ours": seen("3.6.9", ansible_python_interpreter="/opt/tfgateway/python"),
    "named-auto": seen("3.6.9", ansible_python_interpreter="auto_silent"),
}


@pytest.fixture(scope="module")
def values(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    wanted = {name: f"_interpreter_{name} | bool" for name in ("bring", "own_will_do")} | {"own": "_interpreter_own"}
    return evaluate("interpreter", wanted, CASES)


def test_one_is_brought_where_the_nodes_own_will_not_do(values: dict[str, dict[str, Any]]) -> None:
    brought = {case for case, found in values.items() if found["bring"]}
    own = {"bookworm", "noble", "trixie", "by-gateway-python"}
    assert brought == CASES.keys() - own


def test_insisting_on_an_old_python_is_an_error(values: dict[str, dict[str, Any]]) -> None:
    assert not values["by-gateway-python"]["own_will_do"]


@pytest.mark.parametrize(
    ("case", "own"),
    [
        ("absent", "/usr/bin/python3"),
        ("named", "/opt/bionic/python/bin/python3.6"),
        ("named-ours", "/usr/bin/python3"),
        ("named-auto", "/usr/bin/python3"),
    ],
)
def test_the_inventory_tells_which_is_the_nodes_own(values: dict[str, dict[str, Any]], case: str, own: str) -> None:
    assert values[case]["own"] == own


def test_the_example_names_the_interpreter_that_a_run_leaves_and_old_nodes_get_one(
    evaluate: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    example = yaml.safe_load((ROOT / "inventory.example.yml").read_text())["gateways"]
    wanted = {
        "bring": "_interpreter_bring | bool",
        "link": "interpreter_root ~ '/python'",
        "url": "_interpreter_archive.url | default('')",
        "named": "ansible_python_interpreter",
    }
    hosts = {
        name: {"_interpreter_look": {"stdout": f"machine=x86_64\nown={own}\nbrought=no\nlink=\n"}, **example["vars"]}
        for name in example["hosts"]
        for own in ["3.6.9" if name != "tf-gateway-prod-07" else "3.13.5"]
    }
    values = evaluate("interpreter", wanted, hosts)
    assert {found["named"] for found in values.values()} == {found["link"] for found in values.values()}
    assert {name for name, found in values.items() if not found["bring"]} == {"tf-gateway-prod-07"}
    assert all(found["url"].startswith("https://") for found in values.values())


def test_what_others_can_write_is_not_run_as_root(playbook: Callable[..., Any], tmp_path: Path) -> None:
    """Complete by its mark, with the right digest, in a place of somebody else: it is neither asked nor used."""
    ran = tmp_path / "ran"
    home = tmp_path / "root" / "interpreters" / ARCHIVES["x86_64"]["sha256"][:12]
    (home / "bin").mkdir(parents=True)
    (home / ".complete").write_text(ARCHIVES["x86_64"]["sha256"])
    (home / "bin" / "python3").write_text(f"#!/bin/sh\ntouch {ran}\necho 3.12.1\n")
    (home / "bin" / "python3").chmod(0o755)
    (tmp_path / "root").chmod(0o757)
    host = {
        "ansible_connection": "local",
        "interpreter_python": "bundled",
        "interpreter_root": str(tmp_path / "root"),
        "interpreter_archives": dict.fromkeys(("x86_64", "aarch64"), ARCHIVES["x86_64"]),
    }
    run = playbook([{"ansible.builtin.include_role": {"name": "tfgrid.gateway.interpreter"}}], {"a": host}, "--check")
    assert run.code != 0
    assert f"others than root can write to {tmp_path}/root" in run.message("There is one, or can be", "a")
    assert not ran.exists()


def test_nothing_has_a_foreseeable_name_in_a_directory_that_everybody_can_write() -> None:
    """Whoever makes it first decides what is in it; what has to lie there gets its name from mktemp or `tempfile`."""
    files = [path for folder in ("roles", "playbooks", "plugins") for path in (ROOT / folder).rglob("*")]
    foreseeable = re.compile(r"(?<![\w.-])/(?:var/tmp|tmp|dev/shm|run/lock)/\S")
    found = [
        path for path in files if path.suffix in {".yml", ".py", ".j2", ".sh"} and foreseeable.search(path.read_text())
    ]
    assert found == []
