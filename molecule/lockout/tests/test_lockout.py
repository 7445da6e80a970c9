"""Hosts on which provisioning breaks the way in: they undo it by themselves, and the operator is back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from testbed import playbook, sshd
from testbed.containers import fleet, podman
from testbed.containers.fleet import Fleet, Node
from tests.support import disk, waiting

SCENARIO = Path(__file__).parent.parent
FLEET: Fleet = fleet.load(SCENARIO / "fleet.toml")
HEALTHY, DEAF, WALLED = FLEET.nodes
SECONDS = 15  # until a node undoes a change
PATIENCE = 120.0
until = partial(waiting.until, limit=PATIENCE, pause=0.2)


def on(node: Node, script: str) -> str:
    return podman.run("exec", node.name, "sh", "-c", script)


def answers(node: Node, port: int) -> bool:
    return sshd.answers(FLEET.address(node.host), port, within=1.0)


def undo_journal(node: Node, name: str) -> str:
    return on(
        node, f"journalctl --no-pager --output=cat -u tfgateway-undo@{name}.timer -u tfgateway-undo@{name}.service"
    )


def provisioning(node: Node, *options: str, seconds: int = SECONDS, retries: int = 0) -> subprocess.Popen[str]:
    """The roles on one host; every task logs in anew, so nothing is held open by an old connection."""
    environment = {
        **playbook.environment(),
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o StrictHostKeyChecking=accept-new",
        "ANSIBLE_SSH_RETRIES": str(retries),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",  # YAML would fold the sentences
    }
    limits = [f"-e=lockout_hosts={node.name}", f"-e=safeguard_seconds={seconds}", "-e=sshd_answer_timeout=5"]
    inventory = str(FLEET.directory / "inventory.yml")
    return subprocess.Popen(
        ["ansible-playbook", "-i", inventory, str(SCENARIO / "converge.yml"), *limits, *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def locked_out_and_back(process: subprocess.Popen[str], node: Node, port: int) -> str:
    """Wait until nobody gets in, then until the node answers again, all by itself; what the run said."""
    until(lambda: not answers(node, port) or process.poll() is not None, "the run changed nothing")
    assert process.poll() is None, process.communicate()[0]
    until(lambda: answers(node, port), "the operator is locked out")
    said, _ = process.communicate(timeout=PATIENCE)
    return said


def test_a_healthy_change_is_confirmed_by_a_fresh_login() -> None:
    for name in ("sshd", "firewall"):
        journal = undo_journal(HEALTHY, name)
        assert "Started" in journal  # the timer ran
        assert "Stopped" in journal  # and was stopped before its time
        assert "Starting" not in journal  # nothing was undone
    assert on(HEALTHY, "ls /var/lib/tfgateway-undo") == ""
    assert "tfgateway-undo@" not in on(HEALTHY, "systemctl list-timers --all --no-legend")
    assert "Status: active" in on(HEALTHY, "ufw status")
    assert answers(HEALTHY, 22)
    assert answers(HEALTHY, 34022)


def test_a_host_that_is_refused_is_as_it_was() -> None:
    """Nothing on its disk but what a login leaves, and the temporary folder of Ansible."""
    before = disk.changed(DEAF.name)
    refused = provisioning(DEAF, "-e=preflight_memory=99999999")
    said, _ = refused.communicate()
    assert refused.returncode == 2, said
    assert "preflight_memory asks for 99999999: give it more" in said
    (recap,) = (recap for line in said.splitlines() if (recap := playbook.parse_recap(line)))
    assert (recap.host, recap.changed, recap.failed) == (DEAF.name, 0, 1)
    assert disk.changed(DEAF.name) - before == set()


@pytest.fixture
def rocky() -> Iterator[None]:
    """The host says that it is another distribution."""
    on(DEAF, "cp -P /etc/os-release /root/os-release; rm /etc/os-release")
    on(DEAF, "printf 'ID=rocky\\nVERSION_ID=9.4\\nPRETTY_NAME=\"Rocky Linux 9.4\"\\n' > /etc/os-release")
    yield
    on(DEAF, "rm /etc/os-release; mv /root/os-release /etc/os-release")


@pytest.mark.usefixtures("rocky")
def test_another_distribution_is_refused_in_words_and_left_as_it_was() -> None:
    before = disk.changed(DEAF.name)
    refused = provisioning(DEAF)
    said, _ = refused.communicate()
    assert refused.returncode == 2, said
    assert "runs Rocky Linux 9.4: Arch, Debian 11 and Ubuntu 18.04 or newer are supported" in said
    assert disk.changed(DEAF.name) - before == set()


@pytest.fixture
def deaf() -> Iterator[Node]:
    """Somebody named an address that this host does not have; sshd has not read it yet."""
    on(DEAF, "echo 'ListenAddress 192.0.2.1' >> /etc/ssh/sshd_config")
    yield DEAF


def test_i1_an_sshd_that_listens_nowhere_is_undone(deaf: Node) -> None:
    assert answers(deaf, 22)
    before = on(deaf, "cat /etc/ssh/sshd_config")
    process = provisioning(deaf, "--tags=sshd")
    said = locked_out_and_back(process, deaf, 22)
    assert process.returncode != 0, said
    until(lambda: on(deaf, "cat /etc/ssh/sshd_config") == before, "the configuration is not as it was")
    key = ["-i", str(FLEET.key), "-o", f"UserKnownHostsFile={FLEET.known_hosts}", "-o", "IdentitiesOnly=yes"]
    login = ["ssh", *key, "-o", "ConnectTimeout=5", f"root@{FLEET.address(deaf.host)}", "echo", "in"]
    # The file is back before sshd has been started with it.
    until(lambda: subprocess.run(login, capture_output=True, text=True).stdout == "in\n", "nobody gets in")
    until(lambda: "tfgateway-undo@" not in on(deaf, "systemctl list-timers --all --no-legend"), "the timer stays")


def test_i1_what_the_node_has_undone_is_not_done_after_that() -> None:
    before = on(WALLED, "cat /etc/ssh/sshd_config")
    armed = "systemctl is-active --quiet tfgateway-undo@sshd.timer"
    # The next login takes longer than the node waits.
    on(WALLED, f"echo 'if {armed}; then sleep 4; fi' > /root/.ssh/rc")
    held_up = provisioning(WALLED, "--tags=sshd", seconds=1, retries=3)  # a login may meet sshd's restart
    said, _ = held_up.communicate()
    on(WALLED, "rm /root/.ssh/rc")
    assert held_up.returncode != 0, said
    assert "has undone the change 'sshd' before it was made" in said, said
    assert on(WALLED, "cat /etc/ssh/sshd_config") == before
    assert answers(WALLED, 22)
    assert not answers(WALLED, 34022)


def test_i2_a_firewall_that_drops_sshd_is_undone() -> None:
    first = provisioning(WALLED, "--tags=sshd", seconds=600)  # a slow machine is no reason to undo this
    said, _ = first.communicate()
    assert first.returncode == 0, said
    assert answers(WALLED, 34022)
    on(WALLED, "apt-get update -q && apt-get install -q --yes --no-install-recommends ufw")
    rule = "-A ufw-before-input -p tcp -m multiport --dports 22,34022 -j DROP"
    on(WALLED, f"sed -i '/^# End required lines/a {rule}' /etc/ufw/before.rules")
    process = provisioning(WALLED, "--tags=firewall")
    said = locked_out_and_back(process, WALLED, 34022)
    assert process.returncode != 0, said
    assert "has undone the change 'firewall' by itself" in said, said
    assert "Starting" in undo_journal(WALLED, "firewall")
    assert "Status: inactive" in on(WALLED, "ufw status")
