"""Who may register what: the rules as a table, and an explorer that keeps to them."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tfgateway.errors import ExplorerRefused
from tfgateway.explorer import user as users
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import AdmittedGateway, Farm, Gateway, WalletAddress
from tfgateway.explorer.server.registration import RegistrationMode, farm_refusal, gateway_refusal
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.identity.keys import Identity

OPEN, CLOSED = RegistrationMode.OPEN, RegistrationMode.CLOSED
OWNER, OTHER, NOBODY = 7, 8, 0
NOT_OWNER = "threebot_id is the owner, who has to sign the request"
NODE = Identity.from_seed(bytes(range(0x20))).node_id
COMMAND = f"its owner has to run `tfgateway reserve farm admit --farm 3 --node {NODE}"


def admitted(*domains: str) -> AdmittedGateway:
    return AdmittedGateway(farm_id=3, node_id=NODE, managed_domains=domains)


@pytest.mark.parametrize(
    ("mode", "signer", "refusal"),
    [
        (OPEN, NOBODY, None),
        (OPEN, OTHER, None),
        (OPEN, OWNER, None),
        (CLOSED, NOBODY, NOT_OWNER),
        (CLOSED, OTHER, NOT_OWNER),
        (CLOSED, OWNER, None),
    ],
)
def test_who_creates_a_farm(mode: RegistrationMode, signer: int, refusal: str | None) -> None:
    assert farm_refusal(mode, Farm(name="farm", threebot_id=OWNER), signer) == refusal


@pytest.mark.parametrize(
    ("mode", "consent", "domains", "refusal"),
    [
        (OPEN, None, ("a.example",), None),
        (OPEN, admitted(), ("a.example",), None),
        (CLOSED, None, (), f"farm 3 has not admitted this gateway: {COMMAND}`"),
        (
            CLOSED,
            None,
            ("b.example", "A.example"),
            f"farm 3 has not admitted this gateway: {COMMAND} --managed-domain a.example --managed-domain b.example`",
        ),
        (CLOSED, admitted(), (), None),
        (CLOSED, admitted("a.example"), (), None),
        (CLOSED, admitted("a.example", "b.example"), ("B.example", "a.example"), None),
        (
            CLOSED,
            admitted("a.example"),
            ("a.example", "b.example"),
            "farm 3 has admitted this gateway without managed domain b.example: "
            f"{COMMAND} --managed-domain a.example --managed-domain b.example`",
        ),
        # What is below an admitted domain is another one.
        (
            CLOSED,
            admitted("a.example"),
            ("x.a.example",),
            "farm 3 has admitted this gateway without managed domain x.a.example: "
            f"{COMMAND} --managed-domain x.a.example`",
        ),
    ],
)
def test_which_gateway_joins_a_farm(
    mode: RegistrationMode, consent: AdmittedGateway | None, domains: tuple[str, ...], refusal: str | None
) -> None:
    assert gateway_refusal(mode, Gateway(node_id=NODE, farm_id=3, managed_domains=domains), consent) == refusal


def test_a_command_that_would_be_cut_on_its_way_says_so() -> None:
    domains = tuple(f"{'a' * 60}.{number:02}.example" for number in range(100))
    refusal = gateway_refusal(CLOSED, Gateway(node_id=NODE, farm_id=3, managed_domains=domains), None)
    assert refusal == (
        f"farm 3 has not admitted this gateway: {COMMAND} --managed-domain ..., once for each of its"
        " 100 managed domains`"
    )


# The explorer


class Closed:
    """A closed explorer, and people who register at it as our clients do."""

    def __init__(self, explorer: Any) -> None:
        self.explorer = explorer
        self.call = explorer.call

    def client(self, identity: Identity, key_id: object) -> ExplorerClient:
        return ExplorerClient(self.explorer.url, identity=identity, key_id=str(key_id), clock=lambda: self.explorer.now)

    async def user(self, identity: Identity, name: str) -> int:
        async with self.client(identity, 0) as client:
            return (await users.register(client, identity, name, f"{name}@example.com")).id

    async def farm(self, identity: Identity, tid: int, owner: int, name: str = "farm") -> int:
        async with self.client(identity, tid) as client:
            return await users.farm(client, owner, name, "none")

    async def admit(self, identity: Identity, tid: int, farm: int, node: Identity, *domains: str) -> bool:
        async with self.client(identity, tid) as client:
            wanted = AdmittedGateway(farm_id=farm, node_id=node.node_id, managed_domains=domains)
            return await users.admit(client, wanted)

    async def withdraw(self, identity: Identity, tid: int, farm: int, node: Identity) -> bool:
        async with self.client(identity, tid) as client:
            return await users.withdraw(client, farm, node.node_id)

    async def join(self, node: Identity, farm: int, *domains: str) -> Any:
        """As an old gateway registers: who signed is what counts, not how."""
        body = {
            "node_id": node.node_id,
            "farm_id": farm,
            "os_version": "1",
            "public_key_hex": node.public_key.hex(),
            "location": {"city": "Ghent"},
            "managed_domains": list(domains),
        }
        return await self.call("POST", "/gateways", body, by=(node, node.node_id))

    async def listed(self) -> list[str]:
        return [entry["node_id"] for entry in (await self.call("GET", "/gateways")).json]


@pytest.fixture
async def closed(start_explorer: Any) -> Closed:
    """With the default of a new database."""
    return Closed(await start_explorer(registration=None))


async def test_users_prove_their_keys(closed: Closed, user: Identity) -> None:
    body = {"name": "alice", "email": "a@example.com", "pubkey": user.public_key.hex()}
    answer = await closed.call("POST", "/users", body)
    assert (answer.status, answer.error[:21]) == (400, "key_proof is required")
    assert await closed.user(user, "alice") == 1


async def test_the_owner_signs_the_creation_of_a_farm_and_nobody_else(
    closed: Closed, user: Identity, stranger: Identity
) -> None:
    alice, mallory = await closed.user(user, "alice"), await closed.user(stranger, "mallory")
    body = Farm(name="farm", threebot_id=alice, wallet_addresses=(WalletAddress(asset="TFT", address="none"),))
    answer = await closed.call("POST", "/farms", body)
    assert (answer.status, answer.error) == (401, "unauthorized access: no signature in the Authorization header")
    # What an old client has signed says nothing of what it signed for.
    answer = await closed.call("POST", "/farms", body, by=(user, alice))
    assert (answer.status, answer.error.startswith("unauthorized access: the signature must cover")) == (401, True)
    with pytest.raises(ExplorerRefused, match=NOT_OWNER):
        await closed.farm(stranger, mallory, alice)
    assert closed.explorer.count("farm") == 0
    assert await closed.farm(user, alice, alice) == 1
    assert await closed.farm(user, alice, alice) == 1  # again is harmless


async def test_a_gateway_needs_the_consent_of_its_farms_owner(
    closed: Closed, user: Identity, gateway: Identity, stranger: Identity
) -> None:
    alice, mallory = await closed.user(user, "alice"), await closed.user(stranger, "mallory")
    farm = await closed.farm(user, alice, alice)
    theirs = await closed.farm(stranger, mallory, mallory, "theirs")
    assert (await closed.join(gateway, 9)).status == 404
    answer = await closed.join(gateway, farm, "gw1.example")
    assert (answer.status, "farm admit --farm 1 --node" in answer.error) == (403, True)
    # What its owner has signed for something else is no consent.
    for method in ("PUT", "DELETE"):
        answer = await closed.call(method, f"/farms/{farm}/gateways/{gateway.node_id}", {}, by=(user, alice))
        assert (answer.status, "the signature must cover" in answer.error) == (401, True)
    with pytest.raises(ExplorerRefused, match="only the owner of a farm decides"):
        await closed.admit(stranger, mallory, farm, gateway, "gw1.example")
    with pytest.raises(ExplorerRefused, match="no documents"):
        await closed.admit(user, alice, 9, gateway)
    # Consent to another farm, or for another gateway, is none to this.
    await closed.admit(stranger, mallory, theirs, gateway, "gw1.example")
    await closed.admit(user, alice, farm, stranger, "gw1.example")
    assert (await closed.join(gateway, farm, "gw1.example")).status == 403
    assert await closed.listed() == []

    assert await closed.admit(user, alice, farm, gateway, "gw1.example")
    assert not await closed.admit(user, alice, farm, gateway, "gw1.example")
    assert (await closed.join(gateway, farm, "gw1.example", "gw2.example")).status == 403
    assert (await closed.join(gateway, farm, "GW1.example")).status == 201
    assert (await closed.join(gateway, farm)).status == 201
    # The last word counts, and not the sum of them.
    await closed.admit(user, alice, farm, gateway, "gw2.example")
    assert (await closed.join(gateway, farm, "gw1.example")).status == 403
    assert (await closed.join(gateway, farm, "gw2.example")).status == 201
    assert (await closed.call("GET", f"/farms/{farm}/gateways")).json == [
        {"farm_id": farm, "node_id": stranger.node_id, "managed_domains": ["gw1.example"]},
        {"farm_id": farm, "node_id": gateway.node_id, "managed_domains": ["gw2.example"]},
    ]


async def test_who_withdraws_consent_ends_the_entry_and_not_another_farms(
    closed: Closed, user: Identity, gateway: Identity, stranger: Identity
) -> None:
    alice, mallory = await closed.user(user, "alice"), await closed.user(stranger, "mallory")
    farm = await closed.farm(user, alice, alice)
    theirs = await closed.farm(stranger, mallory, mallory, "theirs")
    await closed.admit(user, alice, farm, gateway)
    await closed.admit(stranger, mallory, theirs, gateway)
    assert (await closed.join(gateway, farm)).status == 201
    with pytest.raises(ExplorerRefused, match="only the owner of a farm decides"):
        await closed.withdraw(stranger, mallory, farm, gateway)
    assert await closed.withdraw(stranger, mallory, theirs, gateway)
    assert await closed.listed() == [gateway.node_id]
    assert await closed.withdraw(user, alice, farm, gateway)
    assert not await closed.withdraw(user, alice, farm, gateway)
    assert await closed.listed() == []
    # What it still says of itself is refused, so that it notices.
    answer = await closed.call(
        "POST", f"/gateways/{gateway.node_id}/uptime", {"uptime": 1}, by=(gateway, gateway.node_id)
    )
    assert answer.status == 404
    assert (await closed.join(gateway, farm)).status == 403


async def test_an_open_explorer_keeps_consent_for_when_it_is_closed(
    start_explorer: Any, user: Identity, gateway: Identity, stranger: Identity
) -> None:
    explorer = await start_explorer(registration=OPEN)
    there = Closed(explorer)
    alice = await there.user(user, "alice")
    farm = await there.farm(user, alice, alice)
    for node in (gateway, stranger):
        assert (await there.join(node, farm, "gw1.example")).status == 201
    await there.admit(user, alice, farm, gateway, "gw1.example")
    await explorer.restart(registration=CLOSED)
    assert (await there.join(gateway, farm, "gw1.example")).status == 201
    assert (await there.join(stranger, farm, "gw1.example")).status == 403
    # The other one is listed, and may report, until its owner says otherwise.
    assert await there.listed() == [gateway.node_id, stranger.node_id]
    await there.withdraw(user, alice, farm, gateway)
    assert await there.listed() == [stranger.node_id]
    await explorer.restart(registration=OPEN)
    await there.admit(user, alice, farm, stranger)
    await there.withdraw(user, alice, farm, stranger)
    assert await there.listed() == [stranger.node_id]


@pytest.mark.parametrize(
    ("node_id", "body", "problem"),
    [
        ("x", {}, "a node id is the base58 text of 32 bytes"),
        (NODE + "11", {}, "a node id is the base58 text of 32 bytes"),
        (NODE, {"managed_domains": ["no domain"]}, "managed domain 'no domain' name is invalid"),
        (NODE, {"managed_domains": [f"{number}.example" for number in range(101)]}, "more than 100 items"),
        (NODE, {"managed_domains": "a.example"}, "Expected `array`"),
        (NODE, [], "not a JSON object"),
    ],
)
async def test_consent_that_is_none(closed: Closed, user: Identity, node_id: str, body: object, problem: str) -> None:
    alice = await closed.user(user, "alice")
    farm = await closed.farm(user, alice, alice)
    async with closed.client(user, alice) as client:
        with pytest.raises(ExplorerRefused) as refused:
            await client._call("PUT", f"/farms/{farm}/gateways/{node_id}", body=body, sign=True)
    assert (refused.value.status, problem in str(refused.value)) == (400, True)
    assert closed.explorer.count("admission") == 0


async def test_a_farm_admits_so_many_gateways(start_explorer: Any, user: Identity) -> None:
    there = Closed(await start_explorer(registration=None, max_admitted=2))
    alice = await there.user(user, "alice")
    farm = await there.farm(user, alice, alice)
    nodes = [Identity.from_seed(bytes([number]) * 32) for number in range(3)]
    for node in nodes[:2]:
        await there.admit(user, alice, farm, node)
    with pytest.raises(ExplorerRefused, match="a farm admits at most 2 gateways"):
        await there.admit(user, alice, farm, nodes[2])
    assert await there.admit(user, alice, farm, nodes[0], "a.example")
    await there.withdraw(user, alice, farm, nodes[1])
    assert await there.admit(user, alice, farm, nodes[2])


async def test_nobody_is_asked_on_behalf_of_a_gateway_that_cannot_join(
    start_explorer: Any, user: Identity, gateway: Identity
) -> None:
    there = Closed(await start_explorer(registration=CLOSED, owner_resolver="127.0.0.1:1"))
    alice = await there.user(user, "alice")
    farm = await there.farm(user, alice, alice)
    assert "has not admitted" in (await there.join(gateway, farm, "gw1.example")).error
    await there.admit(user, alice, farm, gateway, "gw1.example")
    assert "cannot look up the owner" in (await there.join(gateway, farm, "gw1.example")).error


# What a database says


async def _recorded(path: Path, new: RegistrationMode = CLOSED) -> RegistrationMode | None:
    made = Database(SqliteEngine(path), new)
    await made.open()
    await made.close()
    return made.registration


async def test_a_database_says_how_it_was_made(tmp_path: Path) -> None:
    assert await _recorded(tmp_path / "new.db") is CLOSED
    assert await _recorded(tmp_path / "new.db", OPEN) is CLOSED
    assert await _recorded(tmp_path / "open.db", OPEN) is OPEN
    assert await _recorded(tmp_path / "open.db") is OPEN


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # what older releases left is a file
async def test_a_database_of_an_older_release_stays_open(
    tmp_path: Path, start_explorer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "explorer.db"
    await _recorded(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE setting")
        connection.commit()
    explorer = await start_explorer(registration=None)
    body = {"name": "alice", "email": "a@example.com", "pubkey": "00" * 32}
    assert (await explorer.call("POST", "/users", body)).status == 201
    assert explorer.database.registration is None
    await explorer.restart(registration=CLOSED)
    assert (await explorer.call("POST", "/users", {**body, "name": "bob"})).status == 400
    said = [line.split() for line in capsys.readouterr().out.splitlines() if "registration" in line]
    assert [(line[-1], "older" in line, "--registration" in " ".join(line)) for line in said] == [
        ("mode=open", True, True),
        ("mode=closed", False, True),
    ]
