"""The generated pages are complete, and say what each thing means."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml
from tfgateway.settings import Settings

from tools.reference import labels, settings
from tools.reference.__main__ import PAGES, page
from tools.tree import ROOT

_LABEL = re.compile(r"(?<![\w-])[PECRDTI]-\d{1,2}(?![\w-])")


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_stale(name: str) -> None:
    assert (ROOT / name).read_text() == page(name), "make reference"


def test_every_label_that_is_used_is_explained() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    known = labels.labels()
    unknown = {}
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yml", ".j2", ".toml") and path.is_file():
            for label in set(_LABEL.findall(path.read_text(errors="replace"))) - set(known):
                unknown[label] = name
    assert unknown == {}


def test_every_label_has_a_test_of_its_name() -> None:
    assert set(labels.labels()) - set(labels.tests()) == set()


def test_every_setting_is_on_the_page() -> None:
    """Counted in another way: each assignment in a settings class is a key, or a table of its own."""
    listed = {(key.table.strip("[]"), key.name) for key in settings.all_keys()}
    tables = {table for table, _ in listed}
    nested = {"location", "cookies", "rate_limit", "transfer", "notify", "updates", "services", "targets", "check"}
    fields = set(Settings().dns.__struct_fields__) - nested
    assert {name for table, name in listed if table == "dns"} == fields
    assert tables >= set(Settings.__struct_fields__)


def test_every_setting_says_what_it_means() -> None:
    assert [f"{key.table} {key.name}" for key in settings.all_keys() if not key.meaning] == []


def test_a_release_has_one_version() -> None:
    daemon = tomllib.loads((ROOT / "files" / "gateway_daemon" / "pyproject.toml").read_text())["project"]["version"]
    collection = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    assert daemon == collection
    assert f"tfgrid-gateway-{collection}.tar.gz" in (ROOT / "README.md").read_text()
