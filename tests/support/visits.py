"""What visitors of a gateway in a container see: addresses by its DNS, pages through it."""

from __future__ import annotations

import subprocess


def dig(server: str, name: str) -> list[str]:
    """IPv4 addresses of a name, asked at a server; empty when there are none."""
    command = ["dig", f"@{server}", name, "A", "+short", "+tries=1", "+time=2"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def page(server: str, name: str, scheme: str) -> str:
    """A site's first page, through the gateway at an address; empty when there is none."""
    port = 443 if scheme == "https" else 80
    options = ["--silent", "--insecure", "--max-time", "5", "--resolve", f"{name}:{port}:{server}"]
    return subprocess.run(["curl", *options, f"{scheme}://{name}/"], capture_output=True, text=True).stdout
