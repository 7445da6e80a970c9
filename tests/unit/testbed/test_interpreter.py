"""The archive that stands in for python-build-standalone: it runs where it is unpacked, and from nowhere else."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from testbed.containers import interpreter


def test_archive_runs_wherever_it_is_unpacked(tmp_path: Path) -> None:
    archive = interpreter.ensure()
    with tarfile.open(archive.path) as tar:
        tar.extractall(tmp_path)
    program = tmp_path / "python" / "bin" / "python3"
    ask = "import ssl, ctypes, lzma, bz2, zlib, hashlib, sys; print(sys.prefix); print(open('/proc/self/maps').read())"
    done = subprocess.run([program, "-I", "-c", ask], env={}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    prefix, _, maps = done.stdout.partition("\n")
    assert prefix == str(tmp_path / "python")
    loaded = {line.split()[-1] for line in maps.splitlines() if "/libpython" in line}
    assert all(path.startswith(str(tmp_path)) for path in loaded)


def test_only_the_run_path_of_an_elf_file_is_changed() -> None:
    elf = b"\x7fELF..\0/opt/python-3.12/lib\0.."
    assert interpreter.relocated(elf, "/opt/python-3.12", "$ORIGIN/../lib") == (
        b"\x7fELF..\0$ORIGIN/../lib".ljust(len(elf) - 3, b"\0") + b"\0.."
    )
    script = b"#!/opt/python-3.12/lib\0"
    assert interpreter.relocated(script, "/opt/python-3.12", "$ORIGIN/../lib") == script
