"""What has to be true before anything starts. Each failure is one line that says what to do."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from testbed.containers import image, podman
from testbed.containers.fleet import Fleet
from testbed.errors import FleetError
from testbed.paths import ROOT

_SPACE = 4 * 1024**3  # image, two nodes with their packages, .cache
_DNS_PORT = 53
_ANY_ADDRESS = {"0.0.0.0", "[::]", "*"}  # noqa: S104  (compared with, not bound to)


def run(fleet: Fleet) -> None:
    """All checks that need root. Errors: ``FleetError``."""
    new_fleet = not podman.succeeds("network", "exists", fleet.prefix)
    if new_fleet:
        subnet_free(fleet)
        resolver_port_free()
    if new_fleet or not podman.succeeds("image", "exists", image.DEBIAN.name):
        space(ROOT)
        space(Path("/var/lib/containers"))
        network()


def root() -> None:
    """Containers that boot systemd need it."""
    if os.geteuid() != 0:
        raise FleetError("systemd in containers needs root; run it as root (sudo make demo)")


def space(path: Path) -> None:
    """Enough on the file system that holds ``path``."""
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    if free < _SPACE:
        need, have = _SPACE / 1024**3, free / 1024**3
        raise FleetError(f"{have:.1f} GB are free at {path}, {need:.0f} GB are needed; make room there")


def subnet_free(fleet: Fleet) -> None:
    """No route of this machine overlaps with the fleet's networks."""
    for family, wanted in (("-4", fleet.ipv4), ("-6", fleet.ipv6)):
        routes = json.loads(_output(["ip", family, "-json", "route", "show", "table", "main"]) or "[]")
        taken = overlapping(routes, wanted)
        if taken:
            raise FleetError(
                f"network {wanted} is already used here ({taken}); "
                "remove that, or give the fleet another network in its .toml file"
            )


def overlapping(routes: list[dict[str, Any]], wanted: str) -> str | None:
    """The first route (as ``ip -json route`` lists them) into ``wanted``, default routes excepted; None: it is free."""
    for route in routes:
        if route["dst"] == "default":
            continue
        if ipaddress.ip_network(route["dst"], strict=False).overlaps(ipaddress.ip_network(wanted)):
            return f"{route['dst']} on {route.get('dev', 'several devices')}"
    return None


def resolver_port_free() -> None:
    """Podman's resolver listens on port 53 of the fleet's bridge; a server on every address is in its way."""
    program = holder(_output(["ss", "-Hlnup", f"sport = :{_DNS_PORT}"]))
    if program:
        raise FleetError(f"{program} holds UDP port 53 on every address of this machine; stop it, or bind it to one")


def holder(listeners: str) -> str | None:
    """Who listens on every address, from the lines of ``ss -Hlnup``; None: nobody."""
    for line in listeners.splitlines():
        if line.split()[3].rpartition(":")[0] in _ANY_ADDRESS:
            return line.split('"')[1] if '"' in line else "a program"
    return None


def network() -> None:
    """The nodes install Debian packages."""
    mirror = image.mirror()
    if not mirror:
        return
    try:
        urllib.request.urlopen(f"{mirror}/dists/{image.SUITE}/Release", timeout=10).close()  # noqa: S310
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FleetError(f"{mirror} cannot be reached ({reason}); the nodes install packages from there") from error


def _output(command: list[str]) -> str:
    done = subprocess.run(command, env=podman.environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise FleetError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
