"""``tfgateway reserve`` against a real explorer process, with this test as the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tfgateway.explorer import signing, user, wireguard
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import DomainDelegate, Gateway, Location, Result, ResultState, SigningRequest
from tfgateway.identity import proof_token, sealing, seedfile
from tfgateway.identity.keys import Identity

from tests.support.processes import CommandLine

GATEWAY = Identity.from_seed(bytes(range(0x20)))
NODE = GATEWAY.node_id


class Person:
    """Somebody at a terminal."""

    def __init__(self, tfgateway: CommandLine, url: str, seed: Path) -> None:
        self._tfgateway = tfgateway
        self._url = url
        self.seed = seed

    def run(self, *arguments: str, seed: bool = True, **given: Any) -> Any:
        who = ["--seed", str(self.seed)] if seed else []
        return self._tfgateway.run("reserve", "--explorer", self._url, *who, *arguments, config="", **given)

    def at_a_terminal(self, answer: str, *arguments: str) -> Any:
        """Type the answer to a question."""
        keyboard, terminal = pty.openpty()
        try:
            os.write(keyboard, f"{answer}\n".encode())
            return self.run(*arguments, stdin=terminal)
        finally:
            os.close(terminal)
            os.close(keyboard)

    def ask(self, *arguments: str, code: int = 0) -> Any:
        """The JSON of a command."""
        ended = self.run(*arguments, "--json")
        assert ended.returncode == code, ended.stderr
        return json.loads(ended.stdout)


def _as(identity: Identity, key_id: str, url: str, work: Callable[[ExplorerClient], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with ExplorerClient(url, identity=identity, key_id=key_id) as client:
            return await work(client)

    return asyncio.run(main())


def _as_gateway(url: str, work: Callable[[ExplorerClient], Awaitable[Any]]) -> Any:
    return _as(GATEWAY, NODE, url, work)


def _answer(url: str, gwid: str, state: ResultState, message: str = "") -> None:
    result = Result(state=state, message=message, signature=signing.sign_result(state, message, b"null", GATEWAY))
    _as_gateway(url, lambda client: client.put_result(NODE, gwid, result))


@pytest.fixture
def url(tfgateway: CommandLine, tmp_path: Path, free_port: Callable[[], int]) -> str:
    """An explorer that accepts any workload."""
    port = free_port()
    tfgateway(
        "explorer", "--listen", f"127.0.0.1:{port}", "--database", str(tmp_path / "e.db"), "--accept-any", config=""
    )
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def alice(tfgateway: CommandLine, tmp_path: Path, url: str) -> Person:
    """A registered user with a farm and a gateway."""
    person = Person(tfgateway, url, tmp_path / "alice.seed")
    arguments = ["--name", "alice.3bot", "--email", "a@example.com", "--output", str(person.seed)]
    assert person.run("register", *arguments, seed=False).returncode == 0
    assert person.ask("farm", "create", "--name", "freefarm") == {"id": 1}
    person.ask("farm", "admit", "--farm", "1", "--node", NODE, "--managed-domain", "gw1.example")
    entry = Gateway(
        node_id=NODE,
        farm_id=1,
        os_version="x",
        public_key_hex=GATEWAY.public_key.hex(),
        location=Location(city="Ghent"),
        managed_domains=("gw1.example",),
    )
    _as_gateway(url, lambda client: client.register_gateway(entry))
    return person


def test_registering_writes_a_seed_file_with_the_tid(alice: Person) -> None:
    assert alice.seed.read_bytes().startswith(b'"1.1.0"{"mnemonic":')
    assert seedfile.load(alice.seed).tid == 1
    assert stat.S_IMODE(alice.seed.stat().st_mode) == 0o400
    assert sorted(path.name for path in alice.seed.parent.glob("alice*")) == ["alice.seed"]


def test_registering_again_finds_the_same_user(alice: Person) -> None:
    again = alice.ask("register", "--name", "alice.3bot", "--email", "a@example.com")
    assert again == {"tid": 1, "name": "alice.3bot", "seed_file": None}
    assert alice.ask("farm", "create", "--name", "freefarm") == {"id": 1}


def test_a_key_outlives_a_registration_whose_answer_was_lost(tfgateway: CommandLine, tmp_path: Path, url: str) -> None:
    output = tmp_path / "bob.seed"
    arguments = ["register", "--name", "bob.3bot", "--email", "b@example.com", "--output", str(output)]
    nobody = Person(tfgateway, "http://127.0.0.1:1", output)
    assert nobody.run(*arguments, seed=False).returncode == 1
    kept = seedfile.load(tmp_path / "bob.seed.unregistered")
    assert Person(tfgateway, url, output).run(*arguments, seed=False).returncode == 0
    assert seedfile.load(output) == seedfile.SeedFile(kept.seed, 1)
    assert not (tmp_path / "bob.seed.unregistered").exists()


def test_a_reservation_from_creation_to_deletion(alice: Person, url: str) -> None:
    assert [entry["node_id"] for entry in alice.ask("gateways")] == [NODE]
    made = alice.ask("create", "subdomain", "--node", NODE, "--domain", "www.gw1.example", "--ip", "192.0.2.1")
    assert made == {"id": 1, "gwid": "1-1", "pool": 1}
    assert alice.ask("list")[0]["status"] == "pending"
    ended = alice.run("wait", "1", "--timeout", "0")
    assert ended.returncode == 1
    assert "reservation 1: pending: no answer from the gateway in 0 s" in ended.stderr

    _answer(url, "1-1", ResultState.OK)
    assert alice.ask("wait", "1")[0]["status"] == "deployed"
    assert alice.ask("delete", "1") == [{"id": 1, "error": None}]
    assert alice.ask("list")[0]["status"] == "deleting"
    _as_gateway(url, lambda client: client.delete_reservation(NODE, "1-1"))
    assert alice.ask("list") == []
    assert alice.ask("list", "--all")[0]["status"] == "deleted"


def test_e6_a_reservation_that_needs_signatures_is_deployed_once_they_are_given(
    alice: Person, tfgateway: CommandLine, tmp_path: Path, url: str
) -> None:
    bob = Person(tfgateway, url, tmp_path / "bob.seed")
    arguments = ["--name", "bob.3bot", "--email", "b@example.com", "--output", str(bob.seed)]
    assert bob.run("register", *arguments, seed=False).returncode == 0
    # Some other client asked for them: ours never does.
    identity = Identity.from_seed(seedfile.load(alice.seed).seed)
    both = SigningRequest(signers=(1, 2), quorum_min=2)
    wanted = DomainDelegate(node_id=NODE, domain="alice.example", signing_request_provision=both)
    _as(identity, "1", url, lambda client: user.reserve(client, user.Account(identity, 1), wanted))
    assert alice.ask("list")[0]["message"] == "waiting for signatures"

    assert alice.run("sign", "1").stdout == "agreement to 1 signed\n"
    assert _as_gateway(url, lambda client: client.poll(NODE, 0)).items == ()
    assert bob.ask("sign", "7", "1", code=1) == [
        {"id": 7, "error": "the explorer does not know it"},
        {"id": 1, "error": None},
    ]
    assert [item.id for item in _as_gateway(url, lambda client: client.poll(NODE, 0)).items] == [1]
    ended = bob.run("sign", "1")
    assert ended.returncode == 1
    assert "reservation 1: explorer refused (400): user '2' has signed already" in ended.stderr


def test_gateways_of_one_farm_or_place(alice: Person) -> None:
    for some in (["--farm", "1"], ["--city", "Ghent"], ["--farm", "1", "--city", "Ghent"]):
        assert [entry["node_id"] for entry in alice.ask("gateways", *some)] == [NODE]
    for none in (["--farm", "2"], ["--city", "Gent"], ["--country", "Belgium"], ["--farm", "1", "--city", "Gent"]):
        assert alice.ask("gateways", *none) == []


def test_all_types_are_found_by_the_gateway(alice: Person, url: str) -> None:
    pool = str(alice.ask("pool", "--node", NODE)["id"])
    common = ["--node", NODE, "--pool", pool]
    alice.ask("create", "subdomain", *common, "--domain", "www.gw1.example", "--ip", "192.0.2.1", "--ip", "2001:db8::1")
    alice.ask("create", "delegate", *common, "--domain", "alice.example")
    alice.ask("create", "proxy", *common, "--domain", "www.gw1.example", "--addr", "192.0.2.1", "--port", "8080")
    items = _as_gateway(url, lambda client: client.poll(NODE, 0)).items
    assert [(item.type_name, item.domain, item.pool_id) for item in items] == [
        ("subdomain", "www.gw1.example", 1),
        ("domain_delegate", "alice.example", 1),
        ("proxy", "www.gw1.example", 1),
    ]
    assert items[0].ips == ("192.0.2.1", "2001:db8::1")
    assert (items[2].addr, items[2].port, items[2].port_tls) == ("192.0.2.1", 8080, 443)


def test_a_tunnels_secret_is_read_by_the_gateway_only(alice: Person, url: str, tmp_path: Path) -> None:
    kept = tmp_path / "tunnel.secret"
    common = ["create", "reverse-proxy", "--node", NODE, "--secret-file", str(kept)]
    alice.ask(*common, "--domain", "www.gw1.example")
    secret = kept.read_text().strip()
    assert secret.startswith("1:")
    assert len(secret) > 40
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    # Another name in the same tunnel: the same secret, not the same ciphertext.
    ended = alice.run(*common, "--domain", "mail.gw1.example")
    assert (ended.returncode, ended.stdout) == (0, "reserved reverse-proxy with id 2\n")
    items = _as_gateway(url, lambda client: client.poll(NODE, 0)).items
    assert len({item.secret for item in items}) == 2
    user_key = seedfile.load(alice.seed).seed
    for item in items:
        assert secret not in item.secret
        cipher = bytes.fromhex(item.secret)
        assert sealing.decrypt_ecdh(cipher, GATEWAY.seed, Identity.from_seed(user_key).public_key).decode() == secret


@pytest.mark.parametrize("content", ["2:another", "nothing", "", "1:two words", "\udcff"])
def test_a_secret_that_the_gateway_would_refuse(alice: Person, tmp_path: Path, content: str) -> None:
    kept = tmp_path / "tunnel.secret"
    kept.write_bytes(content.encode("utf-8", "surrogateescape"))
    ended = alice.run("create", "reverse-proxy", "--node", NODE, "--domain", "a.b", "--secret-file", str(kept))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"tfgateway: error: {kept}: ")


def test_a_proof_is_the_one_that_the_gateway_expects(alice: Person, tfgateway: CommandLine) -> None:
    """Made of the key alone: no explorer is asked, and an internationalised name is the one that is served."""
    user_key = Identity.from_seed(seedfile.load(alice.seed).seed).public_key
    expected = proof_token.token(GATEWAY.seed, user_key, "1", "www.xn--bcher-kva.example")
    name, text = "_tfgateway.www.xn--bcher-kva.example", f"tfgateway-proof={expected}"
    asked = ("proof", "--node", NODE, "--domain", "www.Bücher.example")
    assert alice.ask(*asked) == {"name": name, "type": "TXT", "text": text}
    nobody = Person(tfgateway, "http://127.0.0.1:9", alice.seed)
    assert nobody.run(*asked).stdout == f'{name}. TXT "{text}"\n'
    for wrong in ("localhost", "a." * 122 + "example"):
        assert alice.run("proof", "--node", NODE, "--domain", wrong).returncode == 2
    assert "node id" in alice.run("proof", "--node", "x", "--domain", "a.example").stderr


def test_a_secret_needs_a_gateways_id(alice: Person, tmp_path: Path) -> None:
    kept = str(tmp_path / "tunnel.secret")
    ended = alice.run("create", "reverse-proxy", "--node", "X", "--domain", "a.b", "--secret-file", kept)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1


def test_4to6_from_a_new_key_to_a_configuration(alice: Person, url: str, tmp_path: Path) -> None:
    kept = tmp_path / "wg.key"
    alice.ask("create", "4to6", "--node", NODE, "--key-file", str(kept))
    (item,) = _as_gateway(url, lambda client: client.poll(NODE, 0)).items
    private = kept.read_text().strip()
    assert item.public_key == wireguard.public_key(private)
    assert private not in item.public_key

    ended = alice.run("wireguard", "1", "--timeout", "0")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "tfgateway: error: reservation 1: pending: no answer from the gateway\n"

    peer = {"public_key": item.public_key, "endpoint": "gw.example:3443", "allowed_ips": ["::/0"]}
    data = json.dumps({"ips": ["fd00::1"], "peers": [peer]}).encode()
    signature = signing.sign_result(ResultState.OK, "", data, GATEWAY)
    result = Result(state=ResultState.OK, data_json=data, signature=signature)
    _as_gateway(url, lambda client: client.put_result(NODE, "1-1", result))
    ended = alice.run("wireguard", "1", "--key-file", str(kept))
    assert ended.returncode == 0
    assert f"PrivateKey = {private}\nAddress = fd00::1/128\n" in ended.stdout
    assert "Endpoint = gw.example:3443\n" in ended.stdout
    assert private not in alice.run("wireguard", "1").stdout

    kept.write_text(wireguard.generate_private_key())
    ended = alice.run("wireguard", "1", "--key-file", str(kept))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "is not the key of reservation 1" in ended.stderr


def test_4to6_with_a_key_that_stays_elsewhere(alice: Person, url: str, tmp_path: Path) -> None:
    key = wireguard.public_key(wireguard.generate_private_key())
    alice.ask("create", "4to6", "--node", NODE, "--public-key", key)
    alice.ask("create", "delegate", "--node", NODE, "--domain", "alice.example")
    assert _as_gateway(url, lambda client: client.poll(NODE, 0)).items[0].public_key == key
    assert "is a domain_delegate, not a 4to6" in alice.run("wireguard", "2", "--timeout", "0").stderr
    assert alice.run("create", "4to6", "--node", NODE).returncode == 2
    both = ["--public-key", key, "--key-file", str(tmp_path / "wg.key")]
    assert alice.run("create", "4to6", "--node", NODE, *both).returncode == 2
    (tmp_path / "wg.key").write_text("nonsense")
    assert "32 bytes" in alice.run("create", "4to6", "--node", NODE, "--key-file", str(tmp_path / "wg.key")).stderr


def test_a_refusal_of_the_gateway_is_shown_in_its_words(alice: Person, url: str) -> None:
    alice.ask("create", "proxy", "--node", NODE, "--domain", "not a domain", "--addr", "nowhere")
    alice.ask("create", "delegate", "--node", NODE, "--domain", "alice.example")
    _answer(url, "1-1", ResultState.ERROR, "domain 'not a domain' name is invalid \x1b[31m")
    _answer(url, "2-1", ResultState.OK)
    ended = alice.run("wait", "1", "2")
    assert ended.returncode == 1
    assert ended.stderr == (
        "tfgateway: error: reservation 1: failed: domain 'not a domain' name is invalid \\x1b[31m\n"
    )
    assert "\x1b" not in ended.stdout
    assert "deployed" in ended.stdout
    states = alice.ask("wait", "1", "2", code=1)
    assert [line["status"] for line in states] == ["failed", "deployed"]


def test_one_reservation_that_is_not_there_does_not_keep_the_others(alice: Person) -> None:
    alice.ask("create", "delegate", "--node", NODE, "--domain", "alice.example")
    ended = alice.run("delete", "9", "1")
    assert ended.returncode == 1
    assert ended.stdout == "deletion of 1 signed\n"
    assert ended.stderr == "tfgateway: error: reservation 9: the explorer does not know it\n"
    assert [line["error"] for line in alice.ask("delete", "1", "9", code=1)] == [
        "explorer refused (400): user '1' has signed already",
        "the explorer does not know it",
    ]


GOES = """\
alice.example goes with reservation 1. Of what you have in it, on that gateway,
  2 subdomain www.alice.example is not served until the domain is delegated again, and refused when that takes too long
  3 proxy Shop.alice.example stays, but the gateway's DNS does not lead there any more
"""


def test_what_goes_with_a_domain_is_named_before_it_is_deleted(alice: Person) -> None:
    here = ["--node", NODE]
    alice.ask("create", "delegate", *here, "--domain", "alice.example")
    alice.ask("create", "subdomain", *here, "--domain", "www.alice.example", "--ip", "192.0.2.1")
    alice.ask("create", "proxy", *here, "--domain", "Shop.alice.example", "--addr", "203.0.113.9")
    alice.ask("create", "subdomain", *here, "--domain", "www.gw1.example", "--ip", "192.0.2.1")
    refused = alice.run("delete", "1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == GOES + "tfgateway: error: nothing was deleted: --yes deletes it all the same\n"
    as_json = alice.at_a_terminal("y", "delete", "1", "--json")
    assert (as_json.returncode, as_json.stdout, as_json.stderr) == (2, "", refused.stderr)
    declined = alice.at_a_terminal("n", "delete", "1")
    assert (declined.returncode, declined.stdout) == (1, "")
    assert declined.stderr.startswith(GOES + "Delete it all the same? [y/N]: ")
    assert "deleting" not in {line["status"] for line in alice.ask("list")}

    # Nothing is asked where nothing goes with it; and what goes itself, or keeps a zone, is not named.
    assert alice.run("delete", "4").stdout == "deletion of 4 signed\n"
    alice.ask("create", "delegate", *here, "--domain", "alice.example")
    assert alice.ask("delete", "5") == [{"id": 5, "error": None}]
    alice.ask("create", "delegate", *here, "--domain", "shop.alice.example")
    without = alice.run("delete", "1", "2")
    assert (without.returncode, without.stderr) == (0, "")


def test_a_domain_is_deleted_after_a_yes(alice: Person) -> None:
    here = ["--node", NODE]
    for number in (1, 3):
        alice.ask("create", "delegate", *here, "--domain", f"n{number}.example")
        alice.ask("create", "subdomain", *here, "--domain", f"www.n{number}.example", "--ip", "192.0.2.1")
    asked = alice.at_a_terminal("y", "delete", "1")
    assert (asked.returncode, asked.stdout) == (0, "deletion of 1 signed\n")
    told = alice.run("delete", "3", "--yes", "--json")
    assert (told.returncode, json.loads(told.stdout)) == (0, [{"id": 3, "error": None}])
    assert told.stderr.startswith("n3.example goes with reservation 3.")


def test_what_the_explorer_refuses_is_one_line(alice: Person) -> None:
    for arguments, text in [
        (["create", "delegate", "--node", "X", "--domain", "a.example"], "(404): gateway 'X' not found"),
        (["create", "delegate", "--node", NODE, "--pool", "9", "--domain", "a.example"], "(404): pool does not exist"),
    ]:
        ended = alice.run(*arguments)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr == f"tfgateway: error: explorer refused {text}\n"


def test_usage_and_configuration_errors(alice: Person, tfgateway: CommandLine, tmp_path: Path) -> None:
    raw = tmp_path / "raw.seed"
    seedfile.create(raw, os.urandom(32))
    other = Person(tfgateway, "http://127.0.0.1:1", raw)
    assert other.run("list").returncode == 2
    assert "has no tid" in other.run("list").stderr
    assert alice.run("list", seed=False).returncode == 2
    assert alice.run("register", "--name", "x", "--email", "x@example.com", seed=False).returncode == 2
    existing = ["register", "--name", "x", "--email", "x@example.com", "--output", str(raw)]
    assert alice.run(*existing, seed=False).returncode == 2
    assert alice.run("create", "nonsense").returncode == 2
    assert (
        alice.run("create", "proxy", "--node", NODE, "--domain", "a.b", "--addr", "::1", "--port", "65536").returncode
        == 2
    )
    assert alice.run("wait", "zero").returncode == 2
    assert tfgateway.run("reserve", "list", config="").returncode == 2


def test_an_explorer_that_is_away(tfgateway: CommandLine, alice: Person) -> None:
    ended = Person(tfgateway, "http://127.0.0.1:1", alice.seed).run("list")
    assert ended.returncode == 1
    assert ended.stderr.startswith("tfgateway: error: GET /reservations/workloads: ")
    assert "Traceback" not in ended.stderr


def test_tables_for_people(alice: Person) -> None:
    alice.ask("create", "subdomain", "--node", NODE, "--domain", "[red]www.gw1.example", "--ip", "192.0.2.1")
    listed = alice.run("list").stdout.splitlines()
    assert listed[0].split() == ["id", "type", "domain", "gateway", "status", "message"]
    assert listed[1].split() == ["1", "subdomain", "[red]www.gw1.example", NODE, "pending"]
    assert NODE in alice.run("gateways").stdout


def test_pinned_by_commands_and_not_any_more(alice: Person, tfgateway: CommandLine, tmp_path: Path, url: str) -> None:
    seed = tmp_path / "node.seed"
    seedfile.create(seed, bytes(range(0x20)))
    config = f'[explorer]\nurl = "{url}"\n[identity]\nseed = "{seed}"\n'

    def old_heartbeat() -> int:
        body = b'{"uptime": 1}'
        signed = signing.request_headers(GATEWAY, NODE, int(time.time()), body)
        request = urllib.request.Request(f"{url}/api/v1/gateways/{NODE}/uptime", body, signed, method="POST")
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code

    assert old_heartbeat() == 200
    assert tfgateway.run("identity", "pin", config=config).stdout == f"{NODE} is pinned at the explorer\n"
    assert old_heartbeat() == 401
    assert tfgateway.run("identity", "unpin", config=config).stdout == f"{NODE} is not pinned at the explorer\n"
    assert old_heartbeat() == 200
    assert alice.ask("pin") == {"tid": 1, "pinned": True}
    operator = ["explorer", "unpin", "--database", str(tmp_path / "e.db"), "1"]
    assert tfgateway.run(*operator, config="").stdout == "1 is not pinned any more\n"
    assert tfgateway.run(*operator, config="").stdout == "1 was not pinned\n"
    assert alice.ask("unpin") == {"tid": 1, "pinned": False}


def test_a_farm_from_its_creation_to_a_gateway_that_leaves_it(alice: Person, url: str, tmp_path: Path) -> None:
    admission = {"farm_id": 1, "node_id": NODE, "managed_domains": ["gw1.example"]}
    assert alice.ask("farm", "list", "--farm", "1") == [admission]
    admit = ["farm", "admit", "--farm", "1", "--node", NODE, "--managed-domain"]
    said = {"farm": 1, "node_id": NODE, "managed_domains": ["gw1.example"]}
    assert alice.ask(*admit, "GW1.example") == {**said, "changed": False}
    assert alice.ask(*admit, "gw1.example", "--managed-domain", "b.example") == {
        **said,
        "managed_domains": ["b.example", "gw1.example"],
        "changed": True,
    }
    assert alice.run(*admit, "c.example").stdout == f"farm 1 admits {NODE} with c.example\n"
    assert alice.run(*admit, "c.example").stdout == f"farm 1 admits {NODE} with c.example already\n"
    assert alice.run("farm", "list", "--farm", "1").stdout.splitlines()[1].split() == [NODE, "c.example"]
    withdraw = ["farm", "withdraw", "--farm", "1", "--node", NODE]
    assert alice.ask(*withdraw) == {"farm": 1, "node_id": NODE, "changed": True}
    assert alice.ask(*withdraw) == {"farm": 1, "node_id": NODE, "changed": False}
    assert alice.ask("gateways") == []
    assert alice.ask("farm", "list", "--farm", "1") == []


def test_a_farm_is_its_owners(alice: Person, tfgateway: CommandLine, url: str, tmp_path: Path) -> None:
    mallory = Person(tfgateway, url, tmp_path / "mallory.seed")
    who = ["--name", "mallory", "--email", "m@example.com", "--output", str(mallory.seed)]
    assert mallory.run("register", *who, seed=False).returncode == 0
    for words in (["admit"], ["withdraw"]):
        refused = mallory.run("farm", *words, "--farm", "1", "--node", NODE)
        assert (refused.returncode, refused.stderr) == (
            1,
            "tfgateway: error: explorer refused (403): only the owner of a farm decides which gateways it admits\n",
        )
    missing = alice.run("farm", "admit", "--farm", "9", "--node", NODE)
    assert (missing.returncode, missing.stderr) == (
        1,
        "tfgateway: error: explorer refused (404): mongo: no documents in result\n",
    )
    for words, wrong in (
        (["--node", "x"], "--node: a node id is the base58 text of 32 bytes"),
        (["--node", NODE, "--managed-domain", "a b"], "--managed-domain: domain 'a b' name is invalid"),
    ):
        refused = alice.run("farm", "admit", "--farm", "1", *words)
        assert (refused.returncode, refused.stderr) == (2, f"tfgateway: error: {wrong}\n")
