"""The node images: Debian's own packages, two of them standing in for other distributions, no image registry needed.

Where a registry is named, there are images of the other distributions themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.containers import interpreter, podman
from testbed.errors import FleetError
from testbed.paths import CACHE

SUITE = "bookworm"  # of all that is said of no other
REGISTRY_VARIABLE = "TFGATEWAY_IMAGE_REGISTRY"
"""Names where images of distributions come from, such as ``registry.example/library``."""
_MIRROR_VARIABLE = "TFGATEWAY_DEBIAN_MIRROR"
_DEFAULT_MIRROR = re.compile(r'^DEF_MIRROR="([^"$]+)"', re.MULTILINE)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_DIGEST_LABEL = "tfgrid.gateway.digest"
_OWN_LABEL = "tfgrid.gateway.image"
_OLD_PYTHON = "3.6"  # Ubuntu 18.04's


@dataclass(frozen=True, slots=True)
class Image:
    """One image: its name, the directory beside this file that it is built from, and the image that it starts with."""

    name: str
    context: str
    base: str
    suite: str = ""
    """Debian's, when the base is made of its packages; empty: the base is an image."""
    old_python: bool = False
    """Brings Python 3.6 along, where there is one on this machine."""

    @property
    def stand_in(self) -> bool:
        """Whether it is another distribution than it says."""
        return self.base == DEBIAN.name

    @property
    def from_registry(self) -> bool:
        return not self.suite and not self.stand_in

    @property
    def directory(self) -> Path:
        return Path(__file__).parent / self.context

    def digest(self) -> str:
        """Of all that decides what the image holds."""
        started_from = DEBIAN.digest() if self.stand_in else self.suite or self.base
        digest = hashlib.sha256(started_from.encode())
        for path in sorted(filter(Path.is_file, self.directory.iterdir())):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        if self.old_python:
            digest.update(str(interpreter.at_hand(_OLD_PYTHON)).encode())
        return digest.hexdigest()[:16]


def _debian(number: int, suite: str, name: str = "") -> Image:
    base = f"localhost/tfgrid-gateway-base:debian{number}"
    return Image(name or f"localhost/tfgrid-gateway-node:debian{number}", "node", base, suite)


def _real(image: str, context: str) -> Image:
    base = f"{registry()}/{image}"
    return Image(f"localhost/tfgrid-gateway-node:{image.replace(':', '')}", context, base)


def registry() -> str:
    """Where images of distributions come from; empty: nowhere."""
    return os.environ.get(REGISTRY_VARIABLE, "").rstrip("/")


DEBIAN = _debian(12, SUITE, os.environ.get("TFGATEWAY_NODE_IMAGE", ""))
SYSTEMS = {
    "debian-11": _debian(11, "bullseye"),
    "debian-12": DEBIAN,
    "debian-13": _debian(13, "trixie"),
    "ubuntu-18.04": Image("localhost/tfgrid-gateway-node:ubuntu18", "node-ubuntu", DEBIAN.name, old_python=True),
    "arch": Image("localhost/tfgrid-gateway-node:arch", "node-arch", DEBIAN.name),
    "real-ubuntu-18.04": _real("ubuntu:18.04", "node"),
    "real-ubuntu-20.04": _real("ubuntu:20.04", "node"),
    "real-ubuntu-22.04": _real("ubuntu:22.04", "node"),
    "real-ubuntu-24.04": _real("ubuntu:24.04", "node"),
    "real-ubuntu-26.04": _real("ubuntu:26.04", "node"),
    "real-arch": _real("archlinux:latest", "node-real-arch"),
}


def ensure(wanted: Image, log: Path) -> bool:
    """Build an image unless it is there and up to date; True when something was built. Errors: ``FleetError``."""
    with _alone():  # fleets that are created at the same time start from one image
        return _ensure(wanted, log)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    lock = CACHE / "image" / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _ensure(wanted: Image, log: Path) -> bool:
    digest = wanted.digest()
    there = podman.inspect("image", wanted.name)
    if there and (there.get("Labels") or {}).get(_DIGEST_LABEL) == digest:
        return False
    if wanted.stand_in:
        _ensure(DEBIAN, log)
    elif wanted.suite and not podman.succeeds("image", "exists", wanted.base):
        _import_base(wanted, log)
    podman.run(
        "build",
        f"--tag={wanted.name}",
        f"--build-arg=BASE={wanted.base}",
        f"--label={_DIGEST_LABEL}={digest}",
        f"--label={_OWN_LABEL}=node",
        f"--volume={_stand_in_python() if wanted.old_python else _empty()}:/stand-in:ro",
        "--network=host",
        "--layers=false",
        "--force-rm",
        str(wanted.directory),
        log=log,
    )
    return True


def remove(systems: Iterable[str]) -> None:
    """Remove these systems' images, unless a container still uses them; the unpacked base stays cached."""
    images = [SYSTEMS[system] for system in systems]
    bases = {DEBIAN.base, *(one.base for one in images if one.suite)}
    with _alone():
        for name in (*(one.name for one in images), *bases):
            if podman.succeeds("image", "exists", name):
                podman.succeeds("image", "rm", name)
        # Older builds, which a newer one took the name from.
        podman.run("image", "prune", "--force", f"--filter=label={_OWN_LABEL}")


def old_python() -> str:
    """The interpreter of the Ubuntu stand-in; empty: this machine had none to give it."""
    return f"/opt/bionic/python/bin/python{_OLD_PYTHON}" if interpreter.at_hand(_OLD_PYTHON) else ""


def mirror() -> str:
    """Where Debian's packages come from: as the environment says, else where debootstrap looks; empty: not known."""
    chosen = os.environ.get(_MIRROR_VARIABLE, "")
    program = shutil.which("debootstrap", path=podman.environment()["PATH"])
    if chosen or program is None:
        return chosen
    found = _DEFAULT_MIRROR.search(Path(program).read_text(errors="replace"))
    return found[1] if found else ""


def _empty() -> Path:
    directory = CACHE / "image" / "empty"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _stand_in_python() -> Path:
    """A directory that holds Python 3.6 as an archive, when there is one."""
    directory = CACHE / "image" / "python3.6"
    directory.mkdir(parents=True, exist_ok=True)
    program = interpreter.at_hand(_OLD_PYTHON)
    if program is not None and not (directory / "python.tar.gz").exists():
        with tarfile.open(directory / "partial", "w:gz", compresslevel=1) as archive:
            interpreter.add_tree(archive, program, program.parent.parent / "lib" / f"python{_OLD_PYTHON}")
        (directory / "partial").rename(directory / "python.tar.gz")
    return directory


def _import_base(wanted: Image, log: Path) -> None:
    archive = CACHE / "image" / f"{wanted.suite}.tar"
    if not archive.exists():
        _bootstrap(wanted.suite, archive, log)
    podman.run("import", f"--change=LABEL {_OWN_LABEL}=base", str(archive), wanted.base, log=log)


def _bootstrap(suite: str, archive: Path, log: Path) -> None:
    """A minimal Debian as a tar archive."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    tree = archive.with_suffix(".tree")
    partial = archive.with_suffix(".partial")
    shutil.rmtree(tree, ignore_errors=True)
    source = filter(None, [mirror()])
    _run(["debootstrap", "--variant=minbase", f"--keyring={_KEYRING}", suite, str(tree), *source], log)
    _run(["tar", "--create", "--one-file-system", f"--file={partial}", f"--directory={tree}", "."], log)
    partial.rename(archive)
    shutil.rmtree(tree)


def _run(command: list[str], log: Path) -> None:
    with log.open("a") as sink:
        environment = podman.environment()
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise FleetError(f"{command[0]} failed; is a Debian mirror reachable ({_MIRROR_VARIABLE})?", log=log)
