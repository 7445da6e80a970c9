"""Role explorer on a host of its own: from nothing, over TLS, again, with a new certificate, backed up and restored."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator

import msgspec
import pytest

from testbed.containers import fleet, podman
from testbed.containers.fleet import Fleet, Node
from testbed.paths import ROOT
from testbed.playbook import Recap
from tests.support.explorer_host import NAME, Explorer


@pytest.fixture(scope="module")
def explorer(molecule_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    node = Node(name=f"{molecule_fleet.prefix}-explorer-by-role", host=7)
    alone = msgspec.structs.replace(molecule_fleet, nodes=(node,))
    fleet.start_nodes(alone)
    made = Explorer(alone, tmp_path_factory.mktemp("explorer"))
    made.run(f"echo 127.0.0.1 {NAME} >> /etc/hosts")
    yield made
    podman.run("rm", "--force", "--time=0", "--volumes", node.name)


@pytest.fixture(scope="module")
def untouched(explorer: Explorer) -> Recap:
    """Check mode before anything is there."""
    return explorer.provision("--check", "--diff")


@pytest.fixture(scope="module")
def first(explorer: Explorer, untouched: Recap) -> Recap:
    return explorer.provision()


@pytest.fixture
def readme() -> Callable[[str], list[str]]:
    """``readme("Backup")``: the commands of a chapter of the role's README, a block an item."""
    text = (ROOT / "roles" / "explorer" / "README.md").read_text()
    chapters = dict(re.findall(r"(?ms)^## (\w+)\n(.*?)(?=^## |\Z)", text))
    return lambda chapter: re.findall(r"(?s)```console\n(.*?)```", chapters[chapter])


def test_check_mode_on_an_untouched_host_fails_nowhere_and_changes_nothing(
    explorer: Explorer, untouched: Recap
) -> None:
    assert untouched.changed > 0
    assert (untouched.failed, untouched.unreachable) == (0, 0)


def test_it_serves_over_tls_and_the_second_run_changes_nothing(explorer: Explorer, first: Recap) -> None:
    assert first.changed > 0
    explorer.register("carol")
    assert explorer.users() == ["carol"]
    again = explorer.provision()
    assert (again.changed, again.failed) == (0, 0)


def test_it_may_bind_low_ports_and_nothing_else(explorer: Explorer, first: Recap) -> None:
    assert explorer.run("systemctl is-enabled tfgateway-explorer").strip() == "enabled"
    pid = explorer.run("systemctl show -p MainPID --value tfgateway-explorer").strip()
    status = explorer.run(f"cat /proc/{pid}/status; stat -c %U /proc/{pid}")
    assert f"CapBnd:\t{1 << 10:016x}\n" in status  # CAP_NET_BIND_SERVICE
    assert status.splitlines()[-1] == "tfgateway-explorer"
    assert explorer.run("stat -c '%U %G %a' /etc/tfgateway-explorer/tls.key").strip() == "root tfgateway-explorer 640"


def test_a_new_certificate_is_loaded_without_a_restart(explorer: Explorer, first: Recap) -> None:
    process = explorer.run("systemctl show -p MainPID tfgateway-explorer")
    explorer.new_certificate()
    renewed = explorer.provision()
    assert renewed.changed > 0
    assert ssl.get_server_certificate((explorer.address, 443)) == (explorer.tls / "certificate.pem").read_text()
    assert explorer.run("systemctl show -p MainPID tfgateway-explorer") == process


def test_commands_of_the_readme_back_up_and_restore(
    explorer: Explorer, first: Recap, readme: Callable[[str], list[str]]
) -> None:
    backup, restore = readme("Backup")
    explorer.register("dave")
    before = explorer.users()
    explorer.run(backup)
    explorer.register("erin")
    assert explorer.users() == [*before, "erin"]
    explorer.run(restore.replace("2026-01-31", "$(date +%F)"))
    explorer.run("for try in $(seq 100); do ss -Hlnt sport = :443 | grep -q . && exit; sleep 0.1; done; exit 1")
    assert explorer.users() == before
