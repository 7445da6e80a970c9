"""What the tarball says of itself, and what is in it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import release
from tools.tree import ROOT

TOP = {
    "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "SECURITY.md",
    "bindep.txt", "changelogs", "docs", "files", "inventory.example.yml", "meta", "playbooks", "plugins",
    "requirements.txt", "roles", "site.yml", "tests",
}  # fmt: skip


@pytest.fixture(scope="module")
def members(tarball: Path) -> dict[str, bytes]:
    with tarfile.open(tarball) as archive:
        found = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in found.items() if file is not None}


def test_it_says_where_it_is_published(members: dict[str, bytes]) -> None:
    said: dict[str, Any] = json.loads(members["MANIFEST.json"])["collection_info"]
    address = "https://gateway.example/tfgrid/gateway"
    assert said["repository"] == said["homepage"] == said["documentation"] == address
    assert said["issues"] == f"{address}/issues"


def test_its_checksum_lies_beside_it(tarball: Path) -> None:
    checksum = hashlib.sha256(tarball.read_bytes()).hexdigest()
    assert (tarball.parent / "SHA256SUMS").read_text() == f"{checksum}  {tarball.name}\n"


@pytest.mark.parametrize("arguments", [[], ["gateway.example"], ["http://gateway.example/a"], ["https://a.example"]])
def test_without_an_address_there_is_none(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(arguments) == 2
    assert "make release REPOSITORY=https://" in capsys.readouterr().err


def test_it_holds_what_users_need_and_nothing_of_contributors(members: dict[str, bytes]) -> None:
    assert {name.partition("/")[0] for name in members} == TOP
    assert {name for name in members if name.startswith("tests/")} == {
        f"tests/sanity/{path.name}" for path in (ROOT / "tests" / "sanity").iterdir()
    }
    assert [name for name in members if "/." in name or name.endswith((".pyc", "ruff.toml", "conf.py"))] == []
    assert sum(map(len, members.values())) < 8 * 1024 * 1024  # Galaxy takes 20 MB


def test_requirements_of_an_execution_environment_are_in_it(members: dict[str, bytes]) -> None:
    named = yaml.safe_load(members["meta/execution-environment.yml"])["dependencies"]
    assert named == {"python": "requirements.txt", "system": "bindep.txt"}
    packages = members["requirements.txt"].decode().splitlines()
    assert {line.partition(">=")[0] for line in packages if not line.startswith("#")} == {"dnspython", "mnemonic", "uv"}
    assert set(named.values()) <= members.keys()
