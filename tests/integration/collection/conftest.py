"""The installed collection, built once."""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.support import artefact

ANSIBLE = [
    "ansible-core",
    "jinja2",
    "MarkupSafe",
    "PyYAML",
    "cryptography",
    "cffi",
    "pycparser",
    "packaging",
    "resolvelib",
]
COLLECTIONS = ["ansible_collections/ansible/posix", "ansible_collections/community/general"]


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artefact.build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> artefact.Installed:
    """Read-only while a test runs Ansible, so that all share it."""
    return artefact.install(tarball, tmp_path_factory.mktemp("controller"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a controller whose Python has ansible-core and the two collections, and nothing else."""
    home = tmp_path_factory.mktemp("bare")
    packages = home / "packages"
    (home / "bin").mkdir()
    parts = {
        Path(file).parts[0] for name in ANSIBLE for file in distribution(name).files or () if file.parts[0] != ".."
    }
    root = Path(str(distribution("ansible-core").locate_file("")))
    for part in [*(parts - {"ansible_collections", "__pycache__"}), *COLLECTIONS]:
        (packages / part).parent.mkdir(parents=True, exist_ok=True)
        (packages / part).symlink_to(root / part)
    base = Path(sys.executable).resolve()
    (home / "bin" / "ansible-playbook").write_text(
        f"#!{base} -IS\nimport sys\nsys.path.insert(0, {str(packages)!r})\n"
        "from ansible.cli.playbook import main\nsys.exit(main())\n"
    )
    (home / "bin" / "ansible-playbook").chmod(0o755)
    return home / "bin"
