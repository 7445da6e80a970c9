"""A prebuilt file is used when it was published with this collection, and refused with a sentence else."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools import release

ROOT = Path(__file__).resolve().parents[4]
FILES = ROOT / "roles" / "release" / "files"
MACHINE = "x86_64-manylinux_2_17"
Build = Callable[..., subprocess.CompletedProcess[str]]


class Published:
    """A daemon without dependencies, an artefact with its release, and their checksums."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.project = directory / "project"
        package = ROOT / "files" / "gateway_daemon" / "src" / "tfgateway" / "telemetry"
        shutil.copytree(package, self.project / "src" / "tfgateway")
        shutil.copy(ROOT / "files" / "gateway_daemon" / "pyproject.toml", self.project)
        (self.project / "requirements.lock").write_text("")
        self.built = json.loads(self.build("3.11", prebuilt=None, PATH=str(Path(sys.executable).parent)).stdout)
        self.release = Path(self.built["archive"])
        self.sums = directory / "SHA256SUMS"
        self.sums.write_text(release.checksums([self.release]))
        self.tar = directory / "prebuilt.tar"
        with tarfile.open(self.tar, "w") as tar:
            tar.add(self.release, self.release.name)

    def build(
        self, python: str, platform: str = MACHINE, *, prebuilt: Path | None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """As role release does, where there is no uv."""
        command = [sys.executable, "-B", str(FILES / "build_release.py"), f"--project={self.project}",
                   f"--python={python}", f"--platform={platform}",
                   f"--output={self.directory / ('cache' if prebuilt else 'built')}"]  # fmt: skip
        if prebuilt:
            command += [f"--prebuilt={prebuilt}", f"--checksums={self.sums}"]
        return subprocess.run(
            command, env={"PATH": "/nonexistent", **environment}, capture_output=True, text=True, check=False
        )

    def refused(self, python: str = "3.11.2", platform: str = MACHINE, prebuilt: Path | None = None) -> str:
        done = self.build(python, platform, prebuilt=prebuilt or self.tar)
        assert done.returncode == 1, done
        assert done.stderr.count("\n") == 1  # a sentence, no traceback
        assert done.stderr.endswith("or leave gateway_prebuilt unset, and this controller builds what it needs\n")
        assert not list((self.directory / "cache").glob("*.tar.gz"))
        return done.stderr


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


@pytest.mark.parametrize("form", ["tar", "directory"])
def test_a_node_gets_the_release_that_was_published(published: Published, form: str) -> None:
    done = published.build("3.11.2", prebuilt=published.tar if form == "tar" else published.release.parent)
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    assert Path(taken["archive"]) == published.directory / "cache" / published.release.name
    wanted = {name: published.built[name] for name in ("version", "sha256", "compiled")} | {"changed": False}
    assert {name: taken[name] for name in wanted} == wanted
    assert Path(taken["archive"]).read_bytes() == published.release.read_bytes()


def test_what_was_taken_is_compared_each_time(published: Published) -> None:
    taken = Path(json.loads(published.build("3.11.2", prebuilt=published.tar).stdout)["archive"])
    taken.write_bytes(b"damaged since")
    assert published.build("3.11.2", prebuilt=published.tar).returncode == 0
    assert taken.read_bytes() == published.release.read_bytes()


def test_another_source_is_another_version(published: Published) -> None:
    (published.project / "src" / "tfgateway" / "text.py").write_text("# changed\n")
    assert f"there are prebuilt releases of {published.built['version']}: take the source" in published.refused()


@pytest.mark.parametrize(
    ("python", "platform", "said"),
    [
        ("3.14.0", MACHINE, "no prebuilt release for Python 3.14 on x86_64, only for Python 3.11 on x86_64: set "),
        ("3.11.2", "riscv64-manylinux_2_17", "no prebuilt release for Python 3.11 on riscv64"),
        ("3.11.2", "x86_64-manylinux_2_5", "needs glibc 2.17, and release_glibc says 2.5: set release_glibc to what"),
    ],
    ids=["python", "machine", "glibc"],
)  # fmt: skip
def test_what_does_not_fit_the_node_is_refused(published: Published, python: str, platform: str, said: str) -> None:
    assert said in published.refused(python, platform)


def test_a_newer_glibc_is_no_obstacle(published: Published) -> None:
    assert published.build("3.11.2", "x86_64-manylinux_2_36", prebuilt=published.tar).returncode == 0


def artefacts(published: Published) -> Iterator[tuple[Path, str]]:
    """Those that will not do, and what is said."""
    damaged = published.directory / "damaged"
    damaged.mkdir()
    (damaged / published.release.name).write_bytes(published.release.read_bytes()[:-1])
    digest = hashlib.sha256(published.release.read_bytes()).hexdigest()
    yield damaged, f"{digest} was published: it is damaged, or no file of ours: download it again"
    empty = published.directory / "empty"
    empty.mkdir()
    yield empty, f"{empty} holds no {published.release.name}: take the one that was published"
    yield published.directory / "absent", "absent is not there: take the one that was published"
    yield published.sums, "SHA256SUMS cannot be read"
    with tarfile.open(published.directory / "other.tar", "w") as tar:
        tar.add(published.sums, "SHA256SUMS")
    yield published.directory / "other.tar", f"holds no {published.release.name}: take the one"


def test_an_artefact_of_something_else_is_refused(published: Published) -> None:
    for artefact, said in artefacts(published):
        assert said in published.refused(prebuilt=artefact)


def test_a_collection_without_checksums_has_no_prebuilt_releases(published: Published) -> None:
    published.sums.unlink()
    assert "install the collection from that tarball" in published.refused()


def test_a_file_is_taken_by_a_pattern_and_all_are_verified_without_one(published: Published) -> None:
    def prebuilt(*arguments: str, artefact: Path = published.tar) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-B", str(FILES / "prebuilt.py"), f"--artefact={artefact}", *arguments]
        return subprocess.run([*command, f"--checksums={published.sums}"], capture_output=True, text=True, check=False)

    assert prebuilt().returncode == 0
    for artefact, said in artefacts(published):
        assert said in prebuilt(artefact=artefact).stderr
    output = f"--output={published.directory / 'cache'}"
    done: dict[str, Any] = json.loads(prebuilt(output, "tfgateway-*").stdout)
    assert done == {
        "archive": str(published.directory / "cache" / published.release.name),
        "sha256": published.built["sha256"],
    }
    assert "no file of the prebuilt artefact is named redis-*" in prebuilt(output, "redis-*").stderr


def test_names_of_what_make_release_builds_are_understood() -> None:
    """What is offered covers the interpreters that the role interpreter takes, on its machines."""
    defaults = (ROOT / "roles" / "interpreter" / "vars" / "main.yml").read_text()
    assert f'_interpreter_oldest: "{release.PYTHONS[0]}"' in defaults
    assert f'_interpreter_newest: "{release.PYTHONS[-1]}"' in defaults
    assert f'release_glibc: "{release.GLIBC}"' in (ROOT / "roles" / "release" / "defaults" / "main.yml").read_text()
