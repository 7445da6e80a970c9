"""Preflight's first stage: an inventory with a mistake in it is refused before any host is connected to."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

Run = Any  # of conftest.py, which cannot be imported
Playbook = Callable[..., Run]

EXAMPLE = Path(__file__).resolve().parents[4] / "inventory.example.yml"
CHECK = "The inventory makes sense"
WORDS = "abandon " * 23 + "art"
OTHER_WORDS = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful " + (
    "legal winner thank year wave sausage worth title"
)

TASKS = [
    {"ansible.builtin.include_role": {"name": "tfgrid.gateway.preflight", "tasks_from": "inventory"}},
    {"name": "Afterwards", "ansible.builtin.debug": {"msg": "the run went on"}},
]
# Any attempt to connect would fail.
VARIABLES = {
    "gateway_explorer_url": "https://explorer.example/api/v1",
    "gateway_farm_id": 1,
    "ansible_ssh_executable": "/nonexistent/ssh",
}


def example() -> dict[str, Any]:
    inventory: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())["gateways"]
    return inventory


def test_example_is_refused_until_its_twin_addresses_are_corrected(playbook: Playbook) -> None:
    inventory = example()
    run = playbook(TASKS, inventory["hosts"], variables=inventory["vars"])
    assert run.code != 0
    for host in ("tf-gateway-prod-01", "tf-gateway-prod-06"):
        message = run.message(CHECK, host)
        assert "tf-gateway-prod-01 and tf-gateway-prod-06 have the same address, 159.89.181.109:34022" in message
    assert "Afterwards" not in run.tasks  # nor on the hosts that are right

    corrected = deepcopy(inventory["hosts"])
    corrected["tf-gateway-prod-06"]["ansible_host"] = "192.0.2.6"
    run = playbook(TASKS, corrected, variables=inventory["vars"])
    assert run.code == 0, run.output
    assert len(run.tasks["Afterwards"]) == 7


def test_a_controller_works_with_the_example_before_a_node_has_its_interpreter(playbook: Playbook) -> None:
    """The example names the one that site.yml will leave there; the controller's own tasks do not use it."""
    inventory = example()
    on_controller = {"name": "Here", "ansible.builtin.stat": {"path": "/"}, "delegate_to": "localhost", "become": False}
    run = playbook([on_controller], inventory["hosts"], "--limit=tf-gateway-prod-02", variables=inventory["vars"])
    assert run.code == 0, run.output


MEMBERS = {
    name: {"ansible_host": f"198.51.100.{number}", "tfredis_address": f"10.0.0.{number}"}
    for number, name in enumerate(("tf-gateway-paris-01", "tf-gateway-paris-02", "tf-gateway-paris-03"), 1)
}
GROUP = {
    "gateway_group": "paris",
    "gateway_managed_domains": ["tfgw-paris.gateway.tf"],
    "gateway_name_servers": ["a.gateway.tf", "b.gateway.tf"],
    "identity_words": WORDS,
}


@pytest.mark.parametrize(
    ("hosts", "variables", "said"),
    [
        (MEMBERS, {}, ""),
        (dict(list(MEMBERS.items())[:1]), {}, "is alone in its gateway_group paris"),
        (dict(list(MEMBERS.items())[:2]), {}, "gateway_group paris has 2 Sentinels, and needs an odd number"),
        (MEMBERS, {"identity_words": ""}, "has no identity_words"),
        (MEMBERS, {"tfredis_source": "bundled"}, "whose redis has no TLS"),
        (
            {**MEMBERS, "tf-gateway-paris-02": {"tfredis_address": "10.0.0.1"}},
            {},
            "have the addresses 10.0.0.1, 10.0.0.1, 10.0.0.3: set tfredis_address of each to an IP address of its own",
        ),
        (
            {**MEMBERS, "tf-gateway-paris-02": {"ansible_host": "paris-02.example"}},
            {},
            "have the addresses 10.0.0.1, paris-02.example, 10.0.0.3",
        ),
        (
            {**MEMBERS, "tf-gateway-paris-02": {"gateway_managed_domains": ["other.gateway.tf"]}},
            {},
            "the members of gateway_group paris differ in gateway_managed_domains",
        ),
    ],
)
def test_the_members_of_a_group_fit_together(
    playbook: Playbook, hosts: dict[str, Any], variables: dict[str, Any], said: str
) -> None:
    run = playbook(TASKS, hosts, variables={**VARIABLES, **GROUP, **variables})
    assert (run.code == 0) is (said == ""), run.output
    if said:
        assert said in " ".join(run.message(CHECK, "tf-gateway-paris-01").split())


def test_limit_does_not_hide_a_twin(playbook: Playbook) -> None:
    inventory = example()
    run = playbook(TASKS, inventory["hosts"], "--limit=tf-gateway-prod-01", variables=inventory["vars"])
    assert "tf-gateway-prod-06" in run.message(CHECK, "tf-gateway-prod-01")


def test_limit_leaves_the_right_hosts_usable(playbook: Playbook) -> None:
    inventory = example()
    run = playbook(TASKS, inventory["hosts"], "--limit=tf-gateway-prod-02", variables=inventory["vars"])
    assert run.code == 0, run.output


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "tf-gateway-url-missing": ({"gateway_explorer_url": ""}, "gateway_explorer_url of"),
    "tf-gateway-url-no-url": ({"gateway_explorer_url": "explorer.example"}, "gateway_explorer_url of"),
    "tf-gateway-url-list": ({"gateway_explorer_url": ["https://explorer.example"]}, "gateway_explorer_url of"),
    "tf-gateway-farm-zero": ({"gateway_farm_id": 0}, "gateway_farm_id of"),
    "tf-gateway-farm-text": ({"gateway_farm_id": "freefarm"}, "gateway_farm_id of"),
    "gateway-of-another-name": ({}, "does not follow the naming rule"),
    "tf-gateway-suffixes-text": ({"gateway_domain_suffixes": "gateway.tf"}, "gateway_domain_suffixes of"),
    "tf-gateway-suffixes-empty": ({"gateway_domain_suffixes": []}, "gateway_domain_suffixes of"),
    "tf-gateway-managed-mapping": ({"gateway_managed_domains": {"a.example": 1}}, "gateway_managed_domains of"),
    "tf-gateway-ns-number": ({"gateway_name_servers": 5}, "gateway_name_servers of"),
    "tf-gateway-name-case": ({"gateway_managed_domains": ["good.example", "Bad.example"]}, "not valid, Bad.example: "),
    "tf-gateway-name-dot": ({"gateway_name_servers": ["ns.example."]}, "not valid, ns.example.: "),
    "tf-gateway-name-label": ({"gateway_domain_suffixes": ["example"]}, "not valid, example: "),
    "tf-gateway-name-long": ({"gateway_managed_domains": ["a" * 64 + ".example"]}, "a" * 64),
    "tf-gateway-name-address": ({"gateway_name_servers": ["192.0.2.1"]}, "192.0.2.1"),
    "tf-gateway-location": ({"gateway_location": "Ghent"}, "gateway_location of"),
    "tf-gateway-targets": ({"gateway_proxy_allowed_targets": ["10.0.0.1"]}, "gateway_proxy_allowed_targets of"),
    "tf-gateway-port": ({"wireguard_port": 70000}, "wireguard_port of tf-gateway-port: 70000 is not a port"),
    "tf-gateway-template": ({"tfredis_port": "{{ 6379 + 60000 }}"}, "tfredis_port of tf-gateway-template: 66379"),
    "tf-gateway-broken": ({"tfredis_port": "{{ 6379 | nofilter }}"}, "tfredis_port of tf-gateway-broken: it cannot be"),
    "tf-gateway-choice": ({"tfredis_source": "mine"}, "tfredis_source of tf-gateway-choice: value of"),
    "tf-gateway-tid": ({"identity_threebot_id": "alice"}, "identity_threebot_id of"),
    "tf-gateway-words-few": ({"identity_words": "abandon " * 23}, "identity_words of tf-gateway-words-few: 23 words"),
    "tf-gateway-words-typo": ({"identity_words": "abandon " * 23 + "arrt"}, "place 24"),
    "tf-gateway-words-order": ({"identity_words": "art " + "abandon " * 23}, "checksum"),
}  # fmt: skip


def addressed(hosts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each host with an address of its own."""
    return {name: {"ansible_host": f"192.0.2.{at}"} | values for at, (name, values) in enumerate(hosts.items(), 1)}


@pytest.fixture(scope="module")
def faults(playbook: Playbook) -> Run:
    return playbook(
        TASKS, addressed({host: values for host, (values, _) in FAULTS.items()}), "-vvv", variables=VARIABLES
    )


@pytest.mark.parametrize("host", FAULTS)
def test_fault_is_named(faults: Run, host: str) -> None:
    message = faults.message(CHECK, host)
    assert FAULTS[host][1] in message
    assert host in message
    assert len(message.splitlines()) == 1  # nothing but this fault is found


def test_secret_words_are_shown_nowhere(faults: Run) -> None:
    assert "abandon" not in faults.output
    assert "arrt" not in faults.output


def test_all_faults_of_a_host_are_shown_at_once(playbook: Playbook) -> None:
    run = playbook(TASKS, addressed({"one": {}}))
    message = run.message(CHECK, "one")
    assert [line.split()[0] for line in message.splitlines()] == ["one", "gateway_explorer_url", "gateway_farm_id"]


def test_one_identity_for_two_hosts_names_both(playbook: Playbook) -> None:
    hosts = {"tf-gateway-a": {"identity_words": WORDS}, "tf-gateway-b": {"identity_words": WORDS}}
    run = playbook(TASKS, addressed(hosts), variables=VARIABLES)
    for host in hosts:
        assert "tf-gateway-a and tf-gateway-b have the same identity_words" in run.message(CHECK, host)
    assert "abandon" not in run.output


def test_what_is_right_passes(playbook: Playbook) -> None:
    hosts: dict[str, dict[str, Any]] = {
        "tf-gateway-prod-01": {"identity_words": WORDS, "identity_threebot_id": 7},
        "tf-gateway-prod-02": {"identity_words": OTHER_WORDS, "gateway_farm_id": "12"},
        "tf-gateway-prod-03.example.org": {"gateway_location": {"city": "Ghent"}},
        "any-name": {"gateway_managed_domains": ["xn--bcher-kva.example"], "gateway_name_servers": ["ns1.example"]},
        "tf-gateway-v6": {"gateway_explorer_url": "http://[2001:db8::1]:8080/api/v1"},
        "tf-gateway-local": {"gateway_proxy_allowed_targets": ["10.0.0.0/8", "fd00::/8"]},
        "tf-gateway-by-facts": {"wireguard_endpoint": "{{ ansible_facts.default_ipv4.address }}:3443"},
        "tf-gateway-by-fact": {"sshd_ports": [22, "{{ ansible_facts.port_of_mine }}"]},
        "tf-gateway-behind-nat": {"ansible_host": "192.0.2.1", "ansible_port": 2222},
    }  # fmt: skip
    run = playbook(TASKS, addressed(hosts), variables=VARIABLES)
    assert run.code == 0, run.output
