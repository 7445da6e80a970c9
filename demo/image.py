"""The node image: Debian's own packages, no image registry needed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from demo import podman
from demo.errors import DemoError
from demo.paths import CACHE, ROOT

IMAGE = os.environ.get("TFGATEWAY_NODE_IMAGE", "localhost/tfgrid-gateway-node:debian12")
BASE = "localhost/tfgrid-gateway-base:debian12"
SUITE = "bookworm"
_MIRROR_VARIABLE = "TFGATEWAY_DEBIAN_MIRROR"
_DEFAULT_MIRROR = re.compile(r'^DEF_MIRROR="([^"$]+)"', re.MULTILINE)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CONTEXT = ROOT / "demo" / "node"
_DIGEST_LABEL = "tfgrid.gateway.digest"
_OWN_LABEL = "tfgrid.gateway.image"


def ensure(log: Path) -> bool:
    """Build the node image unless it is there and up to date; True when something was built. Errors: ``DemoError``."""
    wanted = _digest()
    there = podman.inspect("image", IMAGE)
    if there and (there.get("Labels") or {}).get(_DIGEST_LABEL) == wanted:
        return False
    if not podman.succeeds("image", "exists", BASE):
        _import_base(log)
    podman.run(
        "build",
        f"--tag={IMAGE}",
        f"--build-arg=BASE={BASE}",
        f"--label={_DIGEST_LABEL}={wanted}",
        f"--label={_OWN_LABEL}=node",
        "--network=host",
        "--layers=false",
        "--force-rm",
        str(_CONTEXT),
        log=log,
    )
    return True


def remove() -> None:
    """Remove the images that ``ensure`` made, unless a container still uses them; the unpacked base stays cached."""
    for name in (IMAGE, BASE):
        if podman.succeeds("image", "exists", name):
            podman.succeeds("image", "rm", name)
    # Older builds, which a newer one took the name from.
    podman.run("image", "prune", "--force", f"--filter=label={_OWN_LABEL}")


def mirror() -> str:
    """Where Debian's packages come from: as the environment says, else where debootstrap looks; empty: not known."""
    chosen = os.environ.get(_MIRROR_VARIABLE, "")
    program = shutil.which("debootstrap", path=podman.environment()["PATH"])
    if chosen or program is None:
        return chosen
    found = _DEFAULT_MIRROR.search(Path(program).read_text(errors="replace"))
    return found[1] if found else ""


def _import_base(log: Path) -> None:
    archive = CACHE / "image" / f"{SUITE}.tar"
    if not archive.exists():
        _bootstrap(archive, log)
    podman.run("import", f"--change=LABEL {_OWN_LABEL}=base", str(archive), BASE, log=log)


def _bootstrap(archive: Path, log: Path) -> None:
    """A minimal Debian as a tar archive."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    tree = archive.with_suffix(".tree")
    partial = archive.with_suffix(".partial")
    shutil.rmtree(tree, ignore_errors=True)
    _run(
        ["debootstrap", "--variant=minbase", f"--keyring={_KEYRING}", SUITE, str(tree), *filter(None, [mirror()])], log
    )
    _run(["tar", "--create", "--one-file-system", f"--file={partial}", f"--directory={tree}", "."], log)
    partial.rename(archive)
    shutil.rmtree(tree)


def _run(command: list[str], log: Path) -> None:
    with log.open("a") as sink:
        environment = podman.environment()
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise DemoError(f"{command[0]} failed; is a Debian mirror reachable ({_MIRROR_VARIABLE})?", log=log)


def _digest() -> str:
    digest = hashlib.sha256(SUITE.encode())
    for path in sorted(_CONTEXT.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
