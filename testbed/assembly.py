"""Puts a whole fleet together: the steps that the demo and molecule have in common."""

from __future__ import annotations

from pathlib import Path

from testbed import farm, inventory, reservations
from testbed.containers import certificate, compiled, fleet, image, release
from testbed.containers.fleet import Fleet
from testbed.progress import Progress

WEB_NAMES = ["web.alice.example"]


def nodes(wanted: Fleet, progress: Progress) -> None:
    """Image, network and freshly installed nodes. Errors: ``FleetError``."""
    systems = {node.system for node in wanted.nodes}
    for system in sorted(systems | {"debian-12"}):  # what the fleet's servers run on too
        with progress.step(f"node image {system}", log="image") as step:
            step.note("built from Debian packages" if image.ensure(image.SYSTEMS[system], step.log) else "is there")
    for system in sorted(systems & compiled.SYSTEMS):
        with progress.step(f"interpreter for {system}", log="interpreter") as step:
            step.note(compiled.ensure(system, step.log).path.parent.name)
    with progress.step("network and nodes") as step:
        fleet.create_network(wanted)
        fleet.start_nodes(wanted)
        step.note(", ".join(f"{node.name} {wanted.address(node.host)}" for node in wanted.nodes))


def services(wanted: Fleet, progress: Progress) -> Path:
    """Explorer, farm, web server, and the inventory of it all; the unpacked release. Errors: ``FleetError``."""
    with progress.step("release of the daemon", log="release") as step:
        archive = release.build(step.log)
        unpacked = release.unpack(archive, wanted.directory / "release")
        step.note(archive.name)
    with progress.step("explorer and farm") as step:
        fleet.start_explorer(wanted, unpacked)
        owner = farm.ensure(wanted)
        step.note(f"{wanted.explorer_url}, farm {owner.farm_id}")
    with progress.step("web server") as step:
        directory = wanted.directory / "web"
        certificate.ensure(directory, WEB_NAMES)
        fleet.start_web(wanted, directory)
        step.note(f"http://{wanted.web_address} and https, behind the gateways")
    inventory.write(wanted, owner)
    return unpacked


def home(wanted: Fleet, release: Path, progress: Progress) -> None:
    """A server that is reached through a reverse tunnel only. Errors: ``FleetError``."""
    with progress.step("a server at home, and its tunnel client") as step:
        directory = wanted.directory / "home"
        certificate.ensure(directory, [reservations.HOME])
        fleet.start_home(wanted, release, directory)
        step.note(f"tfgateway tunnel --remote {wanted.address(wanted.nodes[0].host)}:18000")
