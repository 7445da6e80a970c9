"""Names of code and of files that the documentation shows are there."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest

from tools.reference.__main__ import PAGES as GENERATED
from tools.tree import ROOT

PACKAGE = ROOT / "files" / "gateway_daemon" / "src" / "tfgateway"
_MODULE = re.compile(r"`(tfgateway(?:\.[a-z_0-9]+)+)(?::([A-Za-z_.]+))?`")
_NOT_MODULES = (".service", ".toml", ".conf", ".target")
_PATH = re.compile(r"`((?:\.?[a-z][\w.-]*/)+(?:[\w.-]+\.(?:py|yml|toml|md|lock))?|[a-z_]+\.py)`")
_LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
PAGES = [ROOT / name for name in _LISTED.split()]
WRITTEN = [page for page in PAGES if str(page.relative_to(ROOT)) not in GENERATED]
"""The others name what is on nodes, or come from what they describe."""
MODULES = sorted(
    {
        (module, name)
        for page in PAGES
        for module, name in _MODULE.findall(page.read_text())
        if not module.endswith(_NOT_MODULES)
    }
)


@pytest.mark.parametrize(("module", "name"), MODULES)
def test_a_module_and_what_is_named_in_it_is_there(module: str, name: str) -> None:
    found: object = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        found = getattr(found, part)


def test_the_flows_name_something() -> None:
    assert len(MODULES) > 40


def missing(page: Path) -> list[str]:
    """Files and folders that a page names: from the root, from the page, or from the package.

    In a row of a table also from the folder that the row begins with.
    """
    lost = []
    for line in page.read_text().splitlines():
        first = re.match(r"\| `([a-z_/]+/)` \|", line)
        bases = [ROOT, page.parent, PACKAGE, *([PACKAGE / first[1]] if first else [])]
        lost += [name for name in _PATH.findall(line) if not any((base / name).exists() for base in bases)]
    return lost


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_folders_that_a_page_names_are_there(page: Path) -> None:
    assert missing(page) == []


def test_every_package_of_the_daemon_is_in_the_architecture() -> None:
    shown = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert {package for package in packages if f"`{package}/`" not in shown} == set()


def test_unit_tests_of_a_package_are_in_a_folder_of_its_name() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    folders = {path.name for path in (ROOT / "tests" / "unit" / "daemon").iterdir() if any(path.glob("test_*.py"))}
    assert folders - packages == {
        "base",
        "syscalls",
    }  # modules that are in no package; failing system calls in all of them
