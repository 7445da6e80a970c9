"""The installed collection, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import artefact


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artefact.build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> artefact.Installed:
    """Read-only while a test runs Ansible, so that all share it."""
    return artefact.install(tarball, tmp_path_factory.mktemp("controller"))
