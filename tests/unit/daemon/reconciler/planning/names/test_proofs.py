"""Proxies outside all zones that DNS has to prove, through plan and apply."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from tfgateway.explorer.models import ResultState, gwid
from tfgateway.identity import proof_token
from tfgateway.identity.keys import Identity
from tfgateway.identity.sealing import encrypt_ecdh
from tfgateway.ids import Gwid
from tfgateway.reconciler.planning.claims import Claims
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.rows import Actual, Rows
from tfgateway.reconciler.planning.model import Action
from tfgateway.reconciler.planning.proofs import NameFacts, Proof, Proofs
from tfgateway.redis_schema.keys import PROOFS, service_key
from tfgateway.redis_schema.services import decode_service

SECOND = 10**9
WEEK = 7 * 24 * 3600
OK = (ResultState.OK, "")
NAME = "www.newcorp.example"
HERE = ipaddress.ip_address("198.51.100.1")
ADDRESS = NameFacts(addresses=frozenset({HERE}), complete=True)
ALIAS = NameFacts(aliases=frozenset({"ns1.gw1.example"}), complete=True)
ELSEWHERE = NameFacts(
    addresses=frozenset({ipaddress.ip_address("198.51.100.2")}), aliases=frozenset({"ns1.gw2.example"}), complete=True
)
NOTHING = NameFacts(complete=True)
FAILED = NameFacts()
USERS = {tid: Identity.from_seed(bytes([int(tid)]) * 32) for tid in ("7", "8")}


@pytest.fixture
def proving(make_node: Any) -> Any:
    node = make_node(
        "gw1.example",
        proof="dns",
        own_names=frozenset({"ns1.gw1.example"}),
        own_addresses=frozenset({HERE, ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("10.0.0.1")}),
        public_addresses=frozenset({HERE}),
    )
    node.users = {tid: user.public_key for tid, user in USERS.items()}
    return node


def txt(node: Any, tid: str, domain: str = NAME, *, complete: bool = True) -> NameFacts:
    """The record that a user was given, as that user makes it."""
    token = proof_token.token(USERS[tid].seed, node.identity.public_key, tid, domain)
    return NameFacts(tokens=proof_token.tokens([proof_token.record_text(token).encode()]), complete=complete)


def by(node: Any, workload: Any) -> Proof | None:
    """What redis says, as a fresh look shows it."""
    actual, _ = node.look()
    return Claims(node.policy, Rows(actual)).proofs.status(gwid(workload)).by


def says(node: Any, facts: NameFacts, domain: str = NAME) -> None:
    """DNS says this from now on, and the gateway asks it again."""
    node.ask_dns()
    node.dns[domain] = facts


def settled(node: Any) -> Any:
    made = node.settle()
    node.acknowledge()
    return made


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (ADDRESS, Proof.ADDRESS),
        (ALIAS, Proof.ADDRESS),
        (ELSEWHERE, Proof.NONE),
        (NOTHING, Proof.NONE),
        (FAILED, None),
        (NameFacts(addresses=frozenset({ipaddress.ip_address("127.0.0.1")}), complete=True), Proof.NONE),
        (NameFacts(addresses=frozenset({ipaddress.ip_address("10.0.0.1")}), complete=True), Proof.NONE),
        (NameFacts(tokens=frozenset({"a" * 32}), complete=True), Proof.NONE),
    ],
)
def test_what_dns_proves(proving: Any, facts: NameFacts, expected: Proof | None) -> None:
    says(proving, facts)
    proxy = proving.proxy(1, NAME)
    settled(proving)
    assert by(proving, proxy) is expected
    assert proving.recorded(proxy)


def test_a_token_is_for_one_user_and_one_name(proving: Any) -> None:
    says(proving, txt(proving, "8"))
    says(proving, txt(proving, "7", "other.newcorp.example"), "api.newcorp.example")
    ours, other = proving.proxy(1, NAME, tid=8), proving.proxy(2, "api.newcorp.example")
    settled(proving)
    assert (by(proving, ours), by(proving, other)) == (Proof.TXT, Proof.NONE)


@pytest.mark.parametrize("off", [True, False])
def test_only_what_is_outside_all_zones_needs_a_proof(proving: Any, make_node: Any, *, off: bool) -> None:
    node = make_node("gw1.example") if off else proving
    node.users = proving.users
    node.delegate(1, "alice.example")
    node.proxy(2, "www.alice.example")
    node.proxy(3, "web.gw1.example")
    node.subdomain(4, "www.gw1.example", "203.0.113.5")
    if off:
        node.proxy(5, NAME)
    settled(node)
    assert PROOFS not in node.hashes
    assert node.policy.name_facts == {}


def test_a_proved_claim_displaces_one_that_is_not(proving: Any) -> None:
    secret = encrypt_ecdh(b"8:x", USERS["8"].seed, proving.identity.public_key).hex()
    squatting = proving.reverse_proxy(1, NAME, secret, tid=8)
    settled(proving)
    refused = proving.proxy(2, NAME)
    proving.settle()
    token = proof_token.token(USERS["7"].seed, proving.identity.public_key, "7", NAME)
    assert proving.refusal(refused).endswith(
        f'it gives way to a stronger proof by DNS: TXT _tfgateway.{NAME} "tfgateway-proof={token}"'
    )
    proving.acknowledge()
    says(proving, txt(proving, "7"))
    proxy = proving.proxy(3, NAME)
    made = proving.settle()
    assert [(step.id, step.action) for step in made.steps] == [("1-1", Action.REFUSE), ("3-1", Action.DEPLOY)]
    assert proving.answer(proxy) == OK
    assert proving.refusal(squatting) == f"DNS proves that {NAME} is to be another user's at this gateway"
    assert proving.deleted(squatting)
    assert set(proving.hashes[PROOFS]) == {"3-1"}
    assert decode_service(proving.strings[service_key(NAME)]).user == "7"
    proving.acknowledge()
    again = proving.proxy(4, NAME, tid=8)
    proving.settle()
    assert "is taken by reservation 3-1" in proving.refusal(again)


@pytest.mark.parametrize(("first", "second"), [("address", "address"), ("txt", "txt"), ("txt", "address")])
def test_no_claim_gives_way_to_one_that_is_not_proved_better(proving: Any, first: str, second: str) -> None:
    tokens = {"8"} if second == "address" else {"7", "8"}
    facts = ADDRESS
    if first == "txt":
        facts = facts._replace(tokens=frozenset().union(*(txt(proving, tid).tokens for tid in tokens)))
    says(proving, facts)
    proving.proxy(1, NAME, tid=8)
    settled(proving)
    before = proving.rows()
    later = proving.proxy(2, NAME)
    proving.settle()
    assert "is taken by reservation 1-1" in proving.refusal(later)
    assert proving.rows() == before


def test_a_txt_record_outweighs_an_address(proving: Any) -> None:
    """Whose a domain is that leads here, its address does not say: who reserved first may have been a stranger."""
    says(proving, ADDRESS)
    squatting = proving.proxy(1, NAME, tid=8)
    settled(proving)
    says(proving, txt(proving, "7")._replace(addresses=frozenset({HERE})))
    proxy = proving.proxy(2, NAME)
    proving.settle()
    assert proving.answer(proxy) == OK
    assert proving.deleted(squatting)


def test_nothing_is_decided_before_dns_was_asked(proving: Any) -> None:
    squatting = proving.proxy(1, NAME, tid=8)
    settled(proving)
    proving.ask_dns()
    proving.dark = {NAME}
    proving.proxy(2, NAME)
    made = proving.settle()
    assert "2-1" in made.left.undecided
    assert made.unknown_names == (NAME,)
    assert proving.recorded(squatting)


def test_nothing_is_decided_before_the_users_key_is_known(proving: Any) -> None:
    proving.proxy(1, NAME, tid=8)
    settled(proving)
    del proving.users["7"]
    says(proving, txt(proving, "7"))
    proving.proxy(2, NAME)
    made = proving.settle()
    assert made.unknown_users == ("7",)
    assert "2-1" in made.left.undecided


def test_a_claim_without_proof_ends_in_time_with_the_reason(proving: Any) -> None:
    proxy = proving.proxy(1, NAME)
    settled(proving)
    proving.now += (WEEK - 1) * SECOND
    assert settled(proving).steps == ()
    proving.now += SECOND
    proving.settle()
    token = proof_token.token(USERS["7"].seed, proving.identity.public_key, "7", NAME)
    assert proving.refusal(proxy) == (
        "not proved in time: it needs a CNAME or address record that leads to this gateway, or "
        f'TXT _tfgateway.{NAME} "tfgateway-proof={token}"'
    )
    assert proving.deleted(proxy)
    assert not proving.recorded(proxy)
    assert PROOFS not in proving.hashes
    assert not proving.strings


def test_a_proof_in_time_keeps_it(proving: Any) -> None:
    proxy = proving.proxy(1, NAME)
    settled(proving)
    proving.now += (WEEK - 1) * SECOND
    says(proving, ALIAS)
    assert [step.action for step in settled(proving).steps] == [Action.PROOF]
    proving.now += 10 * WEEK * SECOND
    assert settled(proving).steps == ()
    assert proving.recorded(proxy)


def test_an_outage_of_dns_ends_nothing(proving: Any) -> None:
    """Neither what was proved, nor what was not, however long it takes, and over restarts."""
    node = proving
    node.dns = {NAME: txt(node, "7"), "api.newcorp.example": ELSEWHERE}
    proved, unproved = node.proxy(1, NAME), node.proxy(2, "api.newcorp.example")
    settled(node)
    for silence in (FAILED, None):
        for domain in (NAME, "api.newcorp.example"):
            says(node, silence or FAILED, domain)
        node.dark = {NAME, "api.newcorp.example"} if silence is None else set()
        node.boot += "."
        node.now += 10 * WEEK * SECOND
        assert settled(node).steps == ()
    assert (by(node, proved), by(node, unproved)) == (Proof.TXT, Proof.NONE)


def test_half_an_answer_takes_no_proof_away(proving: Any) -> None:
    says(proving, txt(proving, "7"))
    proxy = proving.proxy(1, NAME)
    settled(proving)
    says(proving, ADDRESS._replace(complete=False))
    settled(proving)
    assert by(proving, proxy) is Proof.TXT
    says(proving, ADDRESS)
    settled(proving)
    assert by(proving, proxy) is Proof.ADDRESS


def test_a_proof_that_is_gone_for_long_counts_as_none(proving: Any) -> None:
    """One denial does not end it, nor does one after an outage of the same length: the time begins with the first."""
    says(proving, txt(proving, "7"))
    proxy = proving.proxy(1, NAME)
    settled(proving)
    says(proving, FAILED)
    proving.now += 2 * WEEK * SECOND
    settled(proving)
    says(proving, NOTHING)
    settled(proving)
    assert by(proving, proxy) is Proof.NONE
    assert proving.recorded(proxy)
    proving.now += (WEEK - 1) * SECOND
    assert settled(proving).steps == ()
    proving.now += SECOND
    proving.settle()
    assert proving.refusal(proxy).startswith("not proved in time: ")


def test_ends_count_as_removals(make_node: Any) -> None:
    node = make_node("gw1.example", proof="dns", max_removal_count=1, max_removal_share=0)
    proxies = [node.proxy(number, f"w{number}.newcorp.example") for number in (1, 2)]
    settled(node)
    node.now += WEEK * SECOND
    before = node.rows()
    made = node.settle()
    assert {step.id for step in made.held_steps} == {"1-1", "2-1"}
    assert node.rows() == before
    node.settle(made.held_digest)
    assert not any(map(node.recorded, proxies))


def test_an_incomplete_listing_ends_nothing(proving: Any) -> None:
    proxy = proving.proxy(1, NAME)
    settled(proving)
    proving.now += WEEK * SECOND
    proving.desired = Desired(proving.node_id)
    proving.desired.begin_listing()
    proving.want(proxy)
    assert [step.action for step in settled(proving).steps] == [Action.REPORT]
    proving.desired.end_listing()
    assert [step.action for step in proving.settle().steps] == [Action.REFUSE]


def test_an_answer_that_is_on_its_way_arrives_before_the_reason(proving: Any) -> None:
    proxy = proving.proxy(1, NAME)
    proving.settle()
    proving.now += WEEK * SECOND
    proving.settle()
    assert proving.answer(proxy) == OK
    proving.acknowledge()
    proving.settle()
    assert proving.refusal(proxy).startswith("not proved in time: ")


def test_without_need_the_rows_go(proving: Any, make_node: Any) -> None:
    """The time does not count while no proof is asked for; a domain that its user delegates needs none."""
    proving.proxy(1, NAME)
    proving.proxy(2, "w.other.example")
    settled(proving)
    assert set(proving.hashes[PROOFS]) == {"1-1", "2-1"}
    proving.delegate(3, "newcorp.example")
    settled(proving)
    settled(proving)
    assert set(proving.hashes[PROOFS]) == {"2-1"}
    off = make_node("gw1.example")
    off.hashes, off.strings, off.desired = proving.hashes, proving.strings, proving.desired
    settled(off)
    assert PROOFS not in off.hashes


def test_a_row_that_cannot_be_read_begins_anew(proving: Any) -> None:
    proxy = proving.proxy(1, NAME)
    settled(proving)
    proving.now += WEEK * SECOND
    proving.put(PROOFS, "1-1", '{"by": "oracle"}')
    proving.put(PROOFS, "9-1", "{")
    settled(proving)
    assert by(proving, proxy) is Proof.NONE
    assert set(proving.hashes[PROOFS]) == {"1-1"}


def test_news_note_nothing_before_they_were_looked_up(proving: Any) -> None:
    proving.settle()
    made = proving.planned()
    proving.desired.take_fresh()
    proxy = proving.proxy(1, NAME)
    plan = proving.plan_incremental(made)
    assert [step.action for step in plan.steps] == [Action.DEPLOY]
    for step in plan.steps:
        assert proving.apply(step.transaction)
    assert by(proving, proxy) is None
    assert [step.action for step in settled(proving).steps] == [Action.PROOF]
    assert by(proving, proxy) is Proof.NONE


@pytest.mark.parametrize("since", [0, 1 << 60])
def test_what_is_shown(since: int) -> None:
    proofs = Proofs(Rows(Actual({PROOFS: {"1-1": b'{"since": %d, "by": "none"}' % since}})), WEEK)
    shown = proofs.status(Gwid("1-1"))
    assert shown.words == ("not proved: it ends after 1970-01-08 00:00:00 UTC" if since == 0 else "not proved")
    assert shown.as_data() == {"by": "none", "since": since, "ends": since + WEEK}
    assert not shown.proved


def test_a_row_serves_nothing(make_node: Any) -> None:
    """Of a reservation that is not recorded, as redis may have lost it: its refusal removes nothing."""
    node = make_node("gw1.example", proof="dns", max_removal_count=0, max_removal_share=0)
    refused = node.proxy(1, "www.newcorp.example", "127.0.0.1")
    node.put(PROOFS, "1-1", '{"since": 1, "by": "none"}')
    assert node.settle().held is None
    assert node.deleted(refused)
    assert PROOFS not in node.hashes
