"""A controller with plain Ansible and the tarball: what it lacks is said before a node is connected to."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

from tests.support.artefact import Installed

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
INVENTORY = {
    "gateways": {
        "hosts": {"tf-gateway-a": {"ansible_host": "192.0.2.1", "identity_words": "abandon " * 23 + "art"}},
        "vars": {
            "gateway_explorer_url": "https://explorer.example/api/v1",
            "gateway_farm_id": 1,
            "ansible_ssh_executable": "/nonexistent/ssh",  # any attempt to connect would fail
        },
    }
}


@pytest.fixture(scope="module")
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


def run(installed: Installed, binaries: Path, playbook: str, directory: Path) -> subprocess.CompletedProcess[str]:
    (directory / "inventory.yml").write_text(yaml.safe_dump(INVENTORY))
    controller = Installed(installed.tarball, installed.collections, directory, binaries)
    command = ["ansible-playbook", f"tfgrid.gateway.{playbook}", "-i", "inventory.yml"]
    return controller.run(*command, directory=directory, PATH="/usr/bin:/bin")


def test_site_says_what_is_missing_before_anything(installed: Installed, bare: Path, tmp_path: Path) -> None:
    done = run(installed, bare, "site", tmp_path)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "pip install uv" in said
    assert "pip install mnemonic" in said
    assert "dnspython" not in said  # another playbook needs it
    assert done.stdout.count("TASK [") == 2, done.stdout  # the first checks the arguments of the role
    assert "Traceback" not in done.stdout + done.stderr


def test_doctor_says_all_of_it_and_passes_with_all_of_it(installed: Installed, bare: Path, tmp_path: Path) -> None:
    done = run(installed, bare, "doctor", tmp_path)
    assert done.returncode != 0
    for package in ("uv", "mnemonic", "dnspython"):
        assert f"pip install {package}" in done.stdout
    whole = run(installed, installed.binaries, "doctor", tmp_path)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert '"dnspython": "' in whole.stdout
