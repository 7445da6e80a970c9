"""The example playbook in the README of a role."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_EXAMPLE = re.compile(r"^## Example\n\n```yaml\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def text(role: Path) -> str:
    """As it stands there."""
    (found,) = _EXAMPLE.findall((role / "README.md").read_text())
    return str(found)


def plays(role: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(text(role))
    return found
