"""The main job end to end, by the commands of the README: from nothing, interrupted, again, and away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo import visitors
from testbed import playbook, proofs, reservations
from testbed.containers import fleet, image, podman
from testbed.paths import CACHE
from tools.tree import copy

ROOT = Path(__file__).parent.parent.parent
FILE = "tests/system/fleet.toml"
FLEET = fleet.load(ROOT / FILE)


@dataclass(frozen=True)
class Ended:
    status: int
    output: str


def start(target: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # What runs in the background of a script ignores Ctrl-C, and so would all that it starts.
        ["env", "--default-signal=INT", "make", target, f"FLEET={FILE}"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group that can be interrupted as a terminal does
    )


def make(target: str) -> Ended:
    process = start(target)
    output, _ = process.communicate()
    return Ended(process.returncode, output)


@pytest.fixture(scope="module")
def kept_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A container, never started, keeps `make demo-down` from removing the image that other fleets start from."""
    name = f"{FLEET.prefix}-keeps-the-image"
    image.ensure(image.DEBIAN, tmp_path_factory.mktemp("image") / "log")
    podman.run("create", "--replace", f"--name={name}", "--pull=never", image.DEBIAN.name)
    yield
    podman.run("rm", name)


@pytest.fixture(scope="module")
def interrupted(kept_image: None) -> Iterator[Ended]:
    """From nothing, stopped by Ctrl-C while nodes are being made; at the end everything is removed."""
    assert make("demo-down").status == 0
    process = start("demo")
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if "... network and nodes" in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    rest = process.stdout.read()
    yield Ended(process.wait(), seen + rest)
    make("demo-down")


@pytest.fixture(scope="module")
def first(interrupted: Ended) -> Ended:
    return make("demo")


@pytest.fixture(scope="module")
def second(first: Ended) -> Ended:
    return make("demo")


def recaps() -> list[playbook.Recap]:
    lines = (FLEET.directory / "logs" / "site.log").read_text().splitlines()
    return [recap for recap in map(playbook.parse_recap, lines) if recap]


def test_interrupted_says_how_to_go_on(interrupted: Ended) -> None:
    assert interrupted.status != 0
    assert "`make demo` goes on from here" in interrupted.output


def test_one_command_from_nothing_to_served_reservations(first: Ended) -> None:
    assert first.status == 0, first.output
    assert "11 of 11 as reserved" in first.output
    assert "7 in_sync" in first.output
    assert re.search(r"behind the tunnel [1-9]\d+ visits, 0 failed", first.output), first.output
    assert "What to try next" in first.output


def test_second_run_changes_nothing(second: Ended) -> None:
    assert second.status == 0, second.output
    assert [(recap.host, recap.changed, recap.failed) for recap in recaps()] == [
        (node.name, 0, 0) for node in FLEET.nodes
    ]
    assert " made" not in second.output
    assert "11 of 11 as reserved" in second.output


def newer_tree(where: Path) -> Path:
    """A checkout whose daemon is another one, with the collection of its own on Ansible's path."""
    tree = where / "newer"
    copy(tree)
    with (tree / "files" / "gateway_daemon" / "src" / "tfgateway" / "__init__.py").open("a") as source:
        source.write("\n# a newer release\n")
    collection = tree / ".ansible" / "collections" / "ansible_collections" / "tfgrid"
    collection.mkdir(parents=True)
    (collection / "gateway").symlink_to(tree)
    return tree


def upgrade(wanted: fleet.Fleet, tree: Path) -> tuple[visitors.Visits, str]:
    """`site.yml` of ``tree`` on the first node, while people visit the page behind the tunnel."""
    first = wanted.nodes[0]
    inventory = str(wanted.directory / "inventory.yml")
    command = ["ansible-playbook", "site.yml", "-i", inventory, "--limit", first.name]
    environ = {**playbook.environment(), "ANSIBLE_CONFIG": str(tree / "ansible.cfg")}
    certificate = str(ROOT / proofs.home_certificate(wanted))
    with visitors.visiting(wanted.address(first.host), reservations.HOME, certificate) as visits:
        done = subprocess.run(
            [*command, "-e", f"release_cache={CACHE / 'releases'}"],
            cwd=tree,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    return visits, podman.run("exec", first.name, "readlink", "/opt/tfgateway/current").strip()


def test_an_upgrade_by_site_yml_loses_no_visitor_of_the_tunnel(second: Ended, tmp_path: Path) -> None:
    before = podman.run("exec", FLEET.nodes[0].name, "readlink", "/opt/tfgateway/current").strip()
    home = f"{FLEET.prefix}-home"
    visits, release = upgrade(FLEET, newer_tree(tmp_path))
    assert release != before
    assert visits.done > 100
    assert visits.failures == []
    # The client noticed nothing either: its one session moved from worker to worker since it began.
    podman.run("logs", home, log=tmp_path / "home.log")
    assert (tmp_path / "home.log").read_text().count("] connected ") == 1


def test_down_removes_everything(second: Ended) -> None:
    ended = make("demo-down")
    assert ended.status == 0, ended.output
    assert not [name for name in FLEET.names() if podman.succeeds("container", "exists", name)]
    assert not podman.succeeds("network", "exists", FLEET.prefix)
    assert not FLEET.directory.exists()
