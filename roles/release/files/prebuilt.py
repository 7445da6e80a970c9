"""Take a file out of the prebuilt artefact, which is compared with the checksum that the collection carries.

``make release`` makes the artefact beside the collection's tarball: a tar of all that controllers build or fetch for
nodes. With it a controller needs neither uv nor a package index nor a network. It is given as that tar, or as a
directory with its files.

``prebuilt.py --artefact PATH --output DIRECTORY PATTERN`` prints ``{"archive": path, "sha256": s}`` of the one file
whose name matches; without a pattern it verifies all of them, and takes none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, NamedTuple

# In the tarball only: a checkout has no prebuilt releases.
CHECKSUMS = Path(__file__).resolve().parents[3] / "files" / "prebuilt" / "SHA256SUMS"
UNSET = "or leave gateway_prebuilt unset, and this controller builds what it needs"
_RELEASE = re.compile(
    r"tfgateway-(?P<version>.+)-py(?P<python>[0-9]+\.[0-9]+)-(?P<machine>\w+)-manylinux_(?P<glibc>[0-9]+_[0-9]+)"
    r"-by(?P<builder>[0-9]+\.[0-9]+)\.tar\.gz"
)


class Release(NamedTuple):
    """What the name of a release says. python, builder: minor versions; glibc: the oldest that it runs on."""

    name: str
    version: str
    python: str
    machine: str
    glibc: str
    builder: str

    @property
    def compiled(self) -> bool:
        """Whether it holds bytecode."""
        return self.python == self.builder


def checksums(path: Path) -> dict[str, str]:
    """SHA-256 by name, of a file as ``sha256sum`` writes it. Errors: ``SystemExit``."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        sys.exit(
            f"there is no {path}, which the tarball of a release brings: "
            f"install the collection from that tarball, {UNSET}"
        )
    return {name: checksum for checksum, name in (line.split("  ", 1) for line in lines)}


def releases(names: Iterator[str] | dict[str, str]) -> list[Release]:
    """Those among the files of an artefact."""
    found = ((name, _RELEASE.fullmatch(name)) for name in sorted(names))
    return [Release(name, **match.groupdict()) for name, match in found if match]


def choose(names: dict[str, str], version: str, python: str, machine: str, glibc: str) -> Release:
    """The release for a node. python: ``3.11.2``; glibc: ``2_17``. Errors: ``SystemExit``, with what does not match."""
    offered = releases(names)
    alike = [one for one in offered if one.version == version]
    if not alike:
        sys.exit(
            f"the daemon's source is {version}, and there are prebuilt releases of "
            f"{_listed(one.version for one in offered)}: take the source as the tarball has it, {UNSET}"
        )
    minor = ".".join(python.split(".")[:2])
    fitting = [one for one in alike if (one.python, one.machine) == (minor, machine)]
    if not fitting:
        sys.exit(
            f"there is no prebuilt release for Python {minor} on {machine}, only for "
            f"{_listed(f'Python {one.python} on {one.machine}' for one in alike)}: "
            f"set gateway_python to bundled, {UNSET}"
        )
    running = [one for one in fitting if _numbers(one.glibc) <= _numbers(glibc)]
    if not running:
        sys.exit(
            f"the prebuilt release for Python {minor} on {machine} needs glibc {_dotted(fitting[0].glibc)}, "
            f"and release_glibc says {_dotted(glibc)}: set release_glibc to what the node has, {UNSET}"
        )
    return max(running, key=lambda one: _numbers(one.glibc))


def take(artefact: Path, name: str, checksum: str, output: Path) -> Path:
    """The file in ``output``, complete and with that checksum, or not at all. Errors: ``SystemExit``."""
    target = output / name
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == checksum:
        return target
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as scratch, _opened(artefact, name) as source:
        taken = Path(scratch) / name
        with taken.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        if problem := _mismatch(artefact, name, checksum, hashlib.sha256(taken.read_bytes()).hexdigest()):
            sys.exit(problem)
        taken.replace(target)
    return target


def verify(artefact: Path, known: dict[str, str]) -> None:
    """Whether all files are there as they were published. Errors: ``SystemExit``."""
    for name, checksum in known.items():
        with _opened(artefact, name) as source:
            digest = hashlib.sha256()
            while block := source.read(1 << 20):
                digest.update(block)
        if problem := _mismatch(artefact, name, checksum, digest.hexdigest()):
            sys.exit(problem)


def _mismatch(artefact: Path, name: str, expected: str, found: str) -> str:
    if found == expected:
        return ""
    return (
        f"{name} of {artefact} has the SHA-256 {found}, and {expected} was published: "
        f"it is damaged, or no file of ours: download it again, {UNSET}"
    )


@contextmanager
def _opened(artefact: Path, name: str) -> Iterator[IO[bytes]]:
    other = f"take the one that was published beside the collection's tarball, {UNSET}"
    try:
        if artefact.is_dir():
            with (artefact / name).open("rb") as file:
                yield file
        else:
            with tarfile.open(artefact, "r:") as tar:
                member = tar.extractfile(name)
                if member is None:
                    raise KeyError(name)
                with member:
                    yield member
    except (FileNotFoundError, KeyError):
        what = f"holds no {name}" if artefact.exists() else "is not there"
        sys.exit(f"gateway_prebuilt: {artefact} {what}: {other}")
    except (OSError, tarfile.TarError) as error:
        sys.exit(f"gateway_prebuilt: {artefact} cannot be read ({error}): {other}")


def _numbers(glibc: str) -> list[int]:
    return [int(number) for number in glibc.split("_")]


def _dotted(glibc: str) -> str:
    return glibc.replace("_", ".")


def _listed(words: Iterator[str]) -> str:
    return ", ".join(sorted(set(words))) or "none"


def main() -> None:
    """Take what matches the pattern, or verify all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artefact", type=Path, required=True, help="the tar, or a directory with its files")
    parser.add_argument("--checksums", type=Path, default=CHECKSUMS, help="as sha256sum writes them")
    parser.add_argument("--output", type=Path, help="directory for what is taken")
    parser.add_argument("pattern", nargs="?", help="of the name, as of a shell")
    options = parser.parse_args()
    known = checksums(options.checksums)
    if options.pattern is None:
        verify(options.artefact, known)
        return
    names = [name for name in known if fnmatchcase(name, options.pattern)]
    if len(names) != 1:
        sys.exit(f"no file of the prebuilt artefact is named {options.pattern}, {UNSET}")
    os.umask(0o077)  # a cache is its user's alone
    archive = take(options.artefact, names[0], known[names[0]], options.output)
    print(json.dumps({"archive": str(archive), "sha256": known[names[0]]}))  # noqa: T201


if __name__ == "__main__":
    main()
