"""Names of code that the documentation shows are there."""

from __future__ import annotations

import importlib
import re

import pytest

from tools.tree import ROOT

_NAME = re.compile(r"`(tfgateway(?:\.[a-z_0-9]+)+)(?::([A-Za-z_.]+))?`")
_FILES = (".service", ".toml", ".conf", ".target")

NAMES = sorted(
    {
        match
        for page in (ROOT / "docs").rglob("*.md")
        for match in _NAME.findall(page.read_text())
        if not match[0].endswith(_FILES)
    }
)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_it_is_there(module: str, name: str) -> None:
    found: object = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        found = getattr(found, part)


def test_the_flows_name_something() -> None:
    assert len(NAMES) > 40
