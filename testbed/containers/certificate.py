"""A self-made certificate for the fleet's web server: its visitors name it with ``curl --cacert``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from testbed.errors import FleetError


def ensure(directory: Path, names: list[str]) -> Path:
    """Make ``certificate.pem`` and ``key.pem`` unless they are there; the certificate. Errors: ``FleetError``."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    if certificate.exists():
        return certificate
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / "partial.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = [
        "-days",
        "3650",
        "-subj",
        f"/CN={names[0]}",
        "-addext",
        f"subjectAltName={','.join('DNS:' + name for name in names)}",
    ]
    files = ["-keyout", str(key), "-out", str(partial)]
    done = subprocess.run([*command, *subject, *files], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise FleetError(f"openssl made no certificate: {done.stderr.strip().splitlines()[-1]}")
    partial.rename(certificate)
    return certificate
