"""A release as CONTRIBUTING has it, in a clone: changelog, tarball, prebuilt releases and the checksums of it all."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tools.release import EXAMPLE, MACHINES, PYTHONS
from tools.tree import ROOT

VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
TARBALL, PREBUILT = f"tfgrid-gateway-{VERSION}.tar.gz", f"tfgrid-gateway-{VERSION}-prebuilt.tar"


class Clone:
    """A clone of what is committed here, and what its maintainer types."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        subprocess.run(["git", "clone", "--quiet", ROOT, directory], check=True)

    def run(self, *command: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "ANSIBLE_"))}
        done = subprocess.run(
            command, cwd=self.directory, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """With a release of the version that it has, made of the fragments of its changelog."""
    made = Clone(tmp_path_factory.mktemp("release") / "clone")
    made.run("make", "setup")
    made.run(".venv/bin/antsibull-changelog", "release")
    made.run("git", "add", "--all")
    made.run(
        "git",
        "-c",
        "user.name=maintainer",
        "-c",
        "user.email=maintainer@gateway.example",
        "commit",
        "--quiet",
        "-m",
        VERSION,
    )
    made.run("make", "release", f"REPOSITORY={EXAMPLE}")
    return made


def test_the_changelog_has_what_the_fragments_said(clone: Clone) -> None:
    fragments = list((ROOT / "changelogs" / "fragments").glob("*.yml"))
    changelog = " ".join((clone.directory / "CHANGELOG.rst").read_text().split())
    assert f"v{VERSION}" in changelog
    for path in fragments:
        said = yaml.safe_load(path.read_text())
        said.pop("trivial", None)  # what no user can see
        for kind, texts in said.items():
            for text in [texts] if isinstance(texts, str) else texts:
                assert " ".join(text.split()) in changelog, f"{path.name}: {kind}"
    assert not list((clone.directory / "changelogs" / "fragments").glob("*.yml"))


def test_everything_published_has_its_checksum(clone: Clone) -> None:
    dist = clone.directory / "dist"
    assert {path.name for path in dist.iterdir()} == {TARBALL, PREBUILT, "SHA256SUMS"}
    said = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=dist, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(": OK") == 2


def test_the_tarball_vouches_for_all_that_is_prebuilt(clone: Clone) -> None:
    dist = clone.directory / "dist"
    with tarfile.open(dist / TARBALL) as tarball, tarfile.open(dist / PREBUILT) as prebuilt:
        carried = tarball.extractfile("files/prebuilt/SHA256SUMS")
        assert carried is not None
        listed = {line.split()[1] for line in carried.read().decode().splitlines()}
        assert "CHANGELOG.rst" in tarball.getnames()
        assert listed == set(prebuilt.getnames())
    for machine in MACHINES:
        for python in PYTHONS:
            assert [name for name in listed if machine in name and f"-py{python}" in name], listed
    assert [name for name in listed if name.startswith("redis-")]


def test_nothing_else_is_left_in_the_clone(clone: Clone) -> None:
    assert clone.run("git", "status", "--porcelain") == ""
