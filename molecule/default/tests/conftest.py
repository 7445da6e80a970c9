"""The fleet of the scenario, its user, and the units' journals when a test fails."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from rich.console import Console

from testbed import assembly, reservations
from testbed.containers import fleet, podman
from testbed.containers.fleet import Fleet
from testbed.person import Person
from testbed.progress import Progress

FLEET = fleet.load(Path(__file__).parent.parent / "fleet.toml")
UNITS = ["tfredis", "tfgateway", "tfgateway-dns", "tfgateway-proxy", "tfgateway-4to6", "ssh", "ufw"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for node in FLEET.nodes:
            units = [option for unit in UNITS for option in ("-u", unit)]
            command = ["podman", "exec", node.name, "journalctl", "--no-pager", "-n", "60", *units]
            done = subprocess.run(command, env=podman.environment(), capture_output=True, text=True)
            report.sections.append((f"journal of {node.name}", done.stdout + done.stderr))
    return report


@pytest.fixture(scope="session")
def molecule_fleet() -> Fleet:
    return FLEET


@pytest.fixture(scope="session")
def alice() -> Person:
    person = Person(FLEET, "alice")
    person.register()
    return person


@pytest.fixture(scope="session")
def node_ids(alice: Person) -> dict[str, str]:
    """Node id by inventory name."""
    return reservations.registered(FLEET, alice)


@pytest.fixture(scope="session")
def served(alice: Person, node_ids: dict[str, str]) -> None:
    """The demo's reservations, deployed, and the server behind her tunnel."""
    reservations.tunnel_secret(FLEET).parent.mkdir(exist_ok=True)
    for group in reservations.wanted(FLEET):
        reservations.make(alice, group, node_ids)
    release = max((FLEET.directory / "release").iterdir(), key=lambda path: path.stat().st_mtime)
    assembly.home(FLEET, release, Progress(Console(), FLEET.directory / "logs"))
