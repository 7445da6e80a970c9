"""Reservations from the user's signature to the answer at the real ports, and what outages do to them."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from tfgateway.explorer import signing, user
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Result, ResultState, UnknownWorkload, Workload
from tfgateway.explorer.user import Account
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity, node_id_to_public_key

from testbed import playbook, proofs, reservations
from testbed.containers import podman
from testbed.containers.fleet import Fleet, Node
from testbed.errors import FleetError
from testbed.person import Person
from testbed.progress import Step
from testbed.proofs import Proof
from tests.support import waiting

PATIENCE = 60.0
until = partial(waiting.until, limit=PATIENCE, pause=0.05)
CONTAINER = 1  # a workload type that no gateway has


def dig(server: str, name: str, kind: str = "A") -> list[str]:
    command = ["dig", f"@{server}", name, kind, "+short", "+tries=1", "+time=2"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def on(node: Node, *command: str) -> str:
    return podman.run("exec", node.name, *command)


def all_hold(fleet: Fleet) -> bool:
    try:
        for proof in proofs.proofs(fleet):
            proofs.prove(proof)
    except FleetError:
        return False
    return True


def account(person: Person) -> Account:
    content = seedfile.load(person.seed)
    assert content.tid is not None
    return Account(Identity.from_seed(content.seed), content.tid)


def in_explorer(fleet: Fleet, work: Callable[[ExplorerClient], object], who: Account) -> object:
    async def main() -> object:
        async with ExplorerClient(fleet.explorer_url, identity=who.identity, key_id=str(who.tid)) as client:
            return await work(client)  # type: ignore[misc]

    return asyncio.run(main())


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("number", range(11))
def test_reserved_is_served(molecule_fleet: Fleet, number: int) -> None:
    found: list[Proof] = proofs.proofs(molecule_fleet)
    assert len(found) == 11
    assert proofs.prove(found[number])


@pytest.mark.usefixtures("served")
def test_new_reservation_is_served_after_the_next_poll(
    molecule_fleet: Fleet, alice: Person, node_ids: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    node = molecule_fleet.nodes[0]
    at, name = molecule_fleet.address(node.host), f"new.{reservations.managed_domain(node)}"
    assert dig(at, name) == []
    made = alice.reserve("create", "subdomain", "--domain", name, "--ip=203.0.113.9", "--node", node_ids[node.name])
    reserved = time.monotonic()
    until(lambda: dig(at, name) == ["203.0.113.9"], f"{name} is not served")
    took = time.monotonic() - reserved
    record_property("seconds from reserved to served, poll interval 2 s", round(took, 2))
    alice.reserve("wait", str(made["id"]))
    alice.reserve("delete", str(made["id"]))
    until(lambda: dig(at, name) == [], f"{name} is still served")


@pytest.mark.usefixtures("served")
class TestRedisStopped:
    """Redis is away: what was known is served on."""

    @pytest.fixture(autouse=True)
    def stopped(self, molecule_fleet: Fleet) -> Iterator[None]:
        node = molecule_fleet.nodes[0]
        on(node, "systemctl", "stop", "tfredis")
        yield
        on(node, "systemctl", "start", "tfredis")
        until(lambda: all_hold(molecule_fleet), "not in sync after redis came back")

    def test_dns_and_proxy_answer_on(self, molecule_fleet: Fleet) -> None:
        asked = [proof for proof in proofs.proofs(molecule_fleet) if proof.command[0] in ("dig", "curl")]
        assert len(asked) == 10
        for proof in asked:
            proofs.prove(proof)


@pytest.mark.usefixtures("served")
def test_emptied_redis_is_filled_by_the_next_pass(molecule_fleet: Fleet) -> None:
    node = molecule_fleet.nodes[0]
    at, www = molecule_fleet.address(node.host), f"www.{reservations.managed_domain(node)}"
    on(node, "redis-cli", "FLUSHALL")
    until(lambda: int(on(node, "redis-cli", "DBSIZE")) > 0, "redis stays empty")
    until(lambda: dig(at, www) == ["203.0.113.5"], f"{www} is not served again")
    until(lambda: all_hold(molecule_fleet), "not all is served again")


@pytest.mark.usefixtures("served")
def test_check_mode_on_provisioned_nodes_reports_no_change_and_no_failure(molecule_fleet: Fleet) -> None:
    log = molecule_fleet.directory / "check.log"
    recaps = playbook.run(molecule_fleet, Step("check", log, None), "--check", "--diff")
    assert len(recaps) == len(molecule_fleet.nodes)
    assert [(recap.changed, recap.failed, recap.unreachable) for recap in recaps] == [(0, 0, 0)] * len(recaps), log


class TestRefused:
    """What is wrong gets a signed error result that says why; what is right in the same batch is deployed."""

    GOOD = f"bob-{int(time.time())}"  # a name of this run: the scenario can be verified again without a new fleet

    @pytest.fixture(scope="class")
    def results(
        self, served: None, molecule_fleet: Fleet, alice: Person, node_ids: dict[str, str]
    ) -> dict[str, Workload]:
        node = molecule_fleet.nodes[0]
        node_id, managed = node_ids[node.name], reservations.managed_domain(node)
        bob = Person(molecule_fleet, "bob")
        bob.register()
        made = {}
        for case, person, arguments in [
            ("domain", alice, ("subdomain", f"--domain=not..a.domain.{managed}", "--ip=203.0.113.5")),
            ("zone", bob, ("subdomain", f"--domain=bob.{reservations.DELEGATED}", "--ip=203.0.113.5")),
            ("address", alice, ("subdomain", f"--domain=bad.{managed}", "--ip=300.1.1.1")),
            ("target", alice, ("proxy", f"--domain=target.{managed}", "--addr=nowhere")),
            ("good", bob, ("subdomain", f"--domain={self.GOOD}.{managed}", "--ip=203.0.113.8")),
        ]:
            made[case] = person.reserve("create", *arguments, "--node", node_id)["id"]
        who = account(alice)
        unknown = UnknownWorkload(node_id=node_id, workload_type=CONTAINER)
        posted = in_explorer(molecule_fleet, lambda client: user.reserve(client, who, unknown), who)
        assert isinstance(posted, Workload)
        made["type"] = posted.id

        def answered(number: int) -> Workload:
            found = in_explorer(molecule_fleet, lambda client: user.wait_for_outcome(client, number, PATIENCE), who)
            assert isinstance(found, Workload)
            return found

        return {case: answered(number) for case, number in made.items()}

    @pytest.mark.parametrize(
        ("case", "reason"),
        [
            ("domain", "not..a.domain"),
            ("zone", reservations.DELEGATED),
            ("address", "300.1.1.1"),
            ("target", "nowhere"),
            ("type", "type"),
        ],
    )
    def test_error_result_says_why_and_is_signed(
        self, results: dict[str, Workload], node_ids: dict[str, str], molecule_fleet: Fleet, case: str, reason: str
    ) -> None:
        result: Result = results[case].result
        assert user.status(results[case])[0] is user.WorkloadStatus.FAILED
        assert reason in result.message
        # The explorer lets go of what has failed: the state may say so already, the signed answer stays.
        message = signing.result_message(ResultState.ERROR, result.message, result.data_json)
        key = node_id_to_public_key(node_ids[molecule_fleet.nodes[0].name])
        signing.verify_hex(key, message, result.signature)

    def test_the_others_are_deployed(self, results: dict[str, Workload], molecule_fleet: Fleet) -> None:
        node = molecule_fleet.nodes[0]
        assert user.status(results["good"])[0] is user.WorkloadStatus.DEPLOYED
        name = f"{self.GOOD}.{reservations.managed_domain(node)}"
        until(lambda: dig(molecule_fleet.address(node.host), name) == ["203.0.113.8"], f"{name} is not served")
        assert all_hold(molecule_fleet)

    def test_an_unknown_host_is_not_proxied(self, served: None, molecule_fleet: Fleet) -> None:
        at = molecule_fleet.address(molecule_fleet.nodes[0].host)
        command = [
            "curl",
            "--silent",
            "--max-time",
            "5",
            "--resolve",
            f"nobody.example:443:{at}",
            "https://nobody.example/",
        ]
        assert subprocess.run(command, capture_output=True).returncode != 0
