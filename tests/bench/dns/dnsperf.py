"""Load from dnsperf, so that the project's own generator need not be believed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.bench.dns.questions import ZONE, host

_SECONDS = 1


def dnsperf(directory: Path, port: int, names: int, mode: str = "udp") -> int:
    """Run it on the load's core; the number of queries that were answered. Errors: ``RuntimeError``.

    mode: ``udp`` or ``tcp``: pipelined queries, out of 16 connections.
    """
    if shutil.which("dnsperf") is None:
        raise RuntimeError("dnsperf is missing: tools/setup.py bench installs it")
    questions = directory / "dnsperf"
    if not questions.exists():
        questions.write_text("".join(f"{host(number)}.{ZONE} A\n" for number in range(names)))
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-l", str(_SECONDS), "-m", mode]
    done = subprocess.run([*command, "-c", "16", "-T", "1", "-q", "512"], capture_output=True, text=True, check=False)
    found = re.search(r"Queries completed:\s+(\d+)", done.stdout)
    if done.returncode or found is None:
        raise RuntimeError(f"dnsperf failed: {done.stdout}{done.stderr}")
    return int(found[1])
