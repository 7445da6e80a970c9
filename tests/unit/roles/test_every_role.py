"""What all roles have in common: documented, with defaults that are what the specification of their arguments says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import tree

ROLES = sorted(path for path in (Path(__file__).resolve().parents[3] / "roles").iterdir() if path.is_dir())

every_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def defaults(role: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((role / "defaults" / "main.yml").read_text())
    return loaded


def options(role: Path) -> dict[str, Any]:
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    found: dict[str, Any] = specification["main"]["options"]
    return found


# What README.md says of nodes, in the words of Ansible Galaxy.
PLATFORMS = [
    {"name": "Debian", "versions": ["bullseye", "bookworm", "trixie"]},
    {"name": "Ubuntu", "versions": ["bionic", "focal", "jammy", "noble"]},
    {"name": "ArchLinux", "versions": ["all"]},
]


def test_there_are_roles() -> None:
    assert {"preflight", "sshd", "gateway"} <= {role.name for role in ROLES}


@every_role
def test_defaults_have_the_keys_of_the_argument_specification(role: Path) -> None:
    assert defaults(role).keys() == options(role).keys()


@every_role
def test_defaults_have_the_values_of_the_argument_specification(role: Path) -> None:
    """Where a default is computed, the specification describes it in words."""
    computed = {name for name, value in defaults(role).items() if "{{" in str(value)}
    specified = {name: option.get("default") for name, option in options(role).items() if name not in computed}
    assert {name: value for name, value in defaults(role).items() if name not in computed} == specified


@every_role
def test_variables_begin_with_the_name_of_the_role(role: Path) -> None:
    assert [name for name in defaults(role) if not name.startswith(f"{role.name}_")] == []
    private = role / "vars" / "main.yml"
    if private.exists():
        assert [name for name in yaml.safe_load(private.read_text()) if not name.startswith(f"_{role.name}_")] == []


@every_role
def test_readme_names_every_variable(role: Path) -> None:
    readme = (role / "README.md").read_text()
    assert readme.startswith(f"# tfgrid.gateway.{role.name}\n")
    assert [name for name in defaults(role) if f"`{name}`" not in readme] == []


@every_role
def test_it_names_every_platform_of_the_nodes(role: Path) -> None:
    assert yaml.safe_load((role / "meta" / "main.yml").read_text())["galaxy_info"]["platforms"] == PLATFORMS


CACHES = {"interpreter": "interpreters", "release": "releases", "tfredis": "redis"}


@pytest.mark.parametrize("role", CACHES)
def test_a_controllers_cache_is_its_users(evaluate: Callable[..., dict[str, dict[str, Any]]], role: str) -> None:
    cases = {"default": {}, "inventory": {"gateway_cache": "/srv/cache"}}
    values = evaluate(role, {"place": f"{role}_cache"}, cases)
    home = os.environ.get("XDG_CACHE_HOME") or f"{Path.home()}/.cache"
    assert values["default"]["place"] == f"{home}/tfgrid.gateway/{CACHES[role]}"
    assert values["inventory"]["place"] == f"/srv/cache/{CACHES[role]}"


def test_nothing_that_is_made_lies_below_the_collection() -> None:
    """Neither roles nor playbooks write beside themselves: what they read there is named by `role_path`."""
    playbooks = (Path(__file__).resolve().parents[3] / "playbooks").rglob("*.yml")
    files = [*playbooks, *(path for role in ROLES for path in role.rglob("*.yml"))]
    assert {path.name for path in files if "playbook_dir" in path.read_text()} == {"place.yml"}


def test_nothing_has_a_fixed_name_where_every_user_may_write() -> None:
    """Whoever makes it first owns it, and what root then reads, follows or runs."""
    directories = ("roles/", "playbooks/", "plugins/", "files/")
    texts = [tree.ROOT / name for name in tree.files() if name.startswith(directories) and not name.endswith(".md")]
    fixed = re.compile(rb"(?<![\w.-])(?:/var)?/tmp/[^\s'\"]|/dev/shm/[^\s'\"]")
    assert len(texts) > 300
    assert [f"{path}: {found[0]!r}" for path in texts for found in fixed.finditer(path.read_bytes())] == []
