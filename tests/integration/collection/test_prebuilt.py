"""A controller without uv, package index and network, but with the artefact that `make release` makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import artefact
from tests.support.artefact import Installed
from tools import release
from tools.tree import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a namespace without a network, and files of root")
HOST = "tf-gateway-a"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The collection's tarball and the artefact, with the one release that this machine runs: all of them take long."""
    python = f"--python={sys.version_info.major}.{sys.version_info.minor}"
    platform = f"--platform={os.uname().machine}-manylinux_{release.GLIBC}"
    wanted = [one for one in release.commands(ROOT / ".cache" / "prebuilt") if python in one and platform in one]
    files = [Path(json.loads(release.run(one))["archive"]) for one in wanted]
    tarball = release.build(release.EXAMPLE, tmp_path_factory.mktemp("prebuilt") / "dist", files)
    return tarball, tarball.with_name(tarball.name.removesuffix(".tar.gz") + "-prebuilt.tar")


@pytest.fixture
def offline(published: tuple[Path, Path], bare: Path, tmp_path: Path) -> Installed:
    """The collection, and Ansible where there is no network."""
    found = artefact.install(published[0], tmp_path)
    program = tmp_path / "bin" / "ansible-playbook"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec unshare --net {bare / "ansible-playbook"} "$@"\n')
    program.chmod(0o755)
    return Installed(found.tarball, found.collections, found.home, program.parent)


def run(
    offline: Installed, directory: Path, playbook: str | list[Any], **variables: Any
) -> subprocess.CompletedProcess[str]:
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
    fleet = {"gateway_explorer_url": "https://explorer.example/api/v1", "gateway_farm_id": 1}
    (directory / "inventory.yml").write_text(yaml.safe_dump({"gateways": {"hosts": {HOST: host}, "vars": fleet}}))
    if isinstance(playbook, list):
        (directory / "play.yml").write_text(yaml.safe_dump(playbook, sort_keys=False))
        playbook = "play.yml"
    more = ["-e", f"gateway_prebuilt={variables['gateway_prebuilt']}"]  # for localhost as well
    command = ["ansible-playbook", playbook, "-i", "inventory.yml", *more]
    before = offline.contents()
    done = offline.run(*command, directory=directory, PATH="/usr/bin:/bin")
    assert offline.contents() == before
    assert "pip install uv" not in done.stdout
    return done


ROLE = [
    {
        "name": "A node",
        "hosts": "gateways",
        "gather_facts": True,
        "gather_subset": ["!all", "!min", "platform"],
        "tasks": [
            {
                "name": "Take it",
                "ansible.builtin.include_role": {"name": "tfgrid.gateway.release", "tasks_from": step, "public": True},
            }
            for step in ("build", "install")
        ],
    }
]


def test_both_are_published_with_their_checksums(published: tuple[Path, Path]) -> None:
    """The tarball's vouch for what is in the other."""
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=published[0].parent, capture_output=True)
    assert checked.stdout.decode().splitlines() == [f"{path.name}: OK" for path in published]
    with tarfile.open(published[0]) as tarball, tarfile.open(published[1]) as prebuilt:
        carried = tarball.extractfile("files/prebuilt/SHA256SUMS")
        assert carried is not None
        names = [line.split()[1] for line in carried.read().decode().splitlines()]
        assert names == prebuilt.getnames()


def test_a_node_gets_the_prebuilt_release_and_runs_it(
    offline: Installed, published: tuple[Path, Path], tmp_path: Path
) -> None:
    """The real daemon, with its dependencies."""
    assert shutil.which("uv", path="/usr/bin:/bin") is None
    version = ".".join(map(str, sys.version_info[:3]))
    node = {"interpreter_path": str(Path(sys.executable).resolve()), "interpreter_version": version}
    place = {name: str(tmp_path / "node") for name in ("release_root", "interpreter_root")}
    place |= {"gateway_cache": str(tmp_path / "cache")}
    done = run(offline, tmp_path, ROLE, gateway_prebuilt=str(published[1]), **node, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    (program,) = (tmp_path / "node" / "releases").glob("*/bin/tfgateway")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert program.parent.parent.name.startswith(said.split()[-1])


def test_the_controller_gets_its_command(offline: Installed, published: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(offline, tmp_path, "tfgrid.gateway.controller", gateway_prebuilt=str(published[1]))
    assert done.returncode == 0, done.stdout + done.stderr
    (program,) = (offline.home / ".cache" / "tfgrid.gateway" / "releases" / "here").glob("*/bin/tfgateway")
    assert str(program) in done.stdout
    assert subprocess.run([program, "--version"], capture_output=True, check=True).stdout


def test_doctor_looks_at_the_artefact(offline: Installed, published: tuple[Path, Path], tmp_path: Path) -> None:
    said = run(offline, tmp_path, "tfgrid.gateway.doctor", gateway_prebuilt=str(published[1])).stdout
    assert "pip install mnemonic" in said  # nothing but what this controller does lack
    assert "gateway_prebuilt" not in said
    (tmp_path / "damaged").mkdir()
    said = run(offline, tmp_path, "tfgrid.gateway.doctor", gateway_prebuilt=str(tmp_path / "damaged")).stdout
    assert "take the one that was published beside the collection's tarball" in " ".join(said.split())
