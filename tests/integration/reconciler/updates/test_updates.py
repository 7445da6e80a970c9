"""DNS updates by real clients: nsupdate and dnspython against reconciler, redis and DNS plane as processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.resolver
import dns.tsig
import dns.update
import dns.xfr
import dns.zone
import pytest
from tfgateway.explorer.models import DomainDelegate, Subdomain

from tests.integration.reconciler.updates.conftest import LIMIT, Tenant
from tests.support.waiting import until


def test_every_type_in_an_own_domain(alice: Tenant) -> None:
    records = {
        "A": "192.0.2.1",
        "AAAA": "2001:db8::1",
        "TXT": '"one" "two"',
        "MX": "10 mail.alice.example.",
        "SRV": "1 2 3 host.alice.example.",
        "CAA": '0 issue "ca.example"',
        "TLSA": f"3 1 1 {'ab' * 32}",
        "SSHFP": f"4 2 {'ab' * 32}",
        "SVCB": '1 host.alice.example. port="53"',
        "HTTPS": '1 . alpn="h2"',
        "PTR": "host.alice.example.",
    }
    message = alice.update("alice.example")
    for kind, text in records.items():
        message.add("all", 60, kind, text)
    message.add("alias", 60, "CNAME", "all.alice.example.")
    assert alice.send(message) == "NOERROR"
    for kind, text in records.items():
        alice.sees("all.alice.example", kind, text)
    alice.sees("alias.alice.example", "CNAME", "all.alice.example.")


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_nsupdate(alice: Tenant, tcp: bool) -> None:
    """It looks the zone up by its SOA itself."""
    ended = alice.nsupdate("update add x.alice.example. 60 TXT hello", tcp=tcp)
    assert (ended.returncode, ended.stderr) == (0, "")
    alice.sees("x.alice.example", "TXT", '"hello"')
    ended = alice.nsupdate("prereq yxrrset x.alice.example. TXT", "update delete x.alice.example. TXT", tcp=tcp)
    assert (ended.returncode, ended.stderr) == (0, "")
    alice.sees("x.alice.example", "TXT")
    ended = alice.nsupdate("prereq yxrrset x.alice.example. TXT", "update add x.alice.example. 60 TXT no", tcp=tcp)
    assert (ended.returncode, ended.stderr) == (2, "update failed: NXRRSET\n")


def test_a_challenge_below_a_managed_domain(alice: Tenant) -> None:
    """The client names the managed domain as the zone: that is where it finds a SOA."""
    ended = alice.nsupdate("update add _acme-challenge.www.gw1.example. 60 TXT token")
    assert (ended.returncode, ended.stderr) == (0, "")
    alice.sees("_acme-challenge.www.gw1.example", "TXT", '"token"')
    alice.sees("www.gw1.example", "A", "203.0.113.5")
    for name, kind, text in (
        ("_acme-challenge.gw1.example.", "TXT", "x"),
        ("_acme-challenge.mail.gw1.example.", "TXT", "x"),
        ("www.gw1.example.", "TXT", "x"),
        ("www.gw1.example.", "A", "192.0.2.1"),
        ("__owner__.alice.example.", "TXT", "x"),
        ("alice.example.", "NS", "ns.elsewhere.example."),
    ):
        zone = "alice.example" if name.endswith("alice.example.") else "gw1.example"
        assert alice.add(name, kind, text, zone=zone) == "REFUSED", name
    assert alice.add("www.gw1.example.", "CAA", '0 issue ";"', zone="gw1.example") == "NOERROR"
    assert alice.add("x.alice.example.", "TXT", "x", zone="gw1.example") == "NOTZONE"
    assert alice.add("x.other.example.", "TXT", "x", zone="other.example") == "NOTAUTH"


def test_what_somebody_else_holds(alice: Tenant) -> None:
    fleet = alice.fleet
    number = fleet.reserve(Subdomain(node_id=fleet.node_id, domain="bob.gw1.example", ips=("203.0.113.6",)), "bob")
    fleet.deployed(number)
    bob = Tenant(fleet, "bob")
    assert bob.add("x.alice.example.", "TXT", "x") == "REFUSED"
    assert bob.add("_acme-challenge.www.gw1.example.", "TXT", "x", zone="gw1.example") == "REFUSED"
    assert bob.add("_acme-challenge.bob.gw1.example.", "TXT", "x", zone="gw1.example") == "NOERROR"


def test_who_has_no_key(alice: Tenant) -> None:
    mallory = Tenant(alice.fleet, "mallory")
    with pytest.raises(dns.tsig.PeerBadKey):
        mallory.add("x.alice.example.", "TXT", "x")
    unsigned = dns.update.UpdateMessage("alice.example")
    unsigned.add("x", 60, "TXT", "x")
    assert alice.send(unsigned) == "REFUSED"
    forged = alice.update("alice.example")
    forged.keyring = dns.tsig.Key(alice.key_name, bytes(32), "hmac-sha256")
    forged.add("x", 60, "TXT", "x")
    with pytest.raises(dns.tsig.PeerBadSignature):
        alice.send(forged)
    assert alice.answers("x.alice.example", "TXT") == []
    assert alice.add("x.alice.example.", "TXT", "x", algorithm="hmac-sha512") == "NOERROR"


def test_they_survive(alice: Tenant, planes: Callable[[], Any]) -> None:
    """A restart, an emptied redis, and a redis with a record that was taken back meanwhile."""
    fleet = alice.fleet
    assert alice.add("x.alice.example.", "TXT", "kept") == "NOERROR"
    assert alice.add("_acme-challenge.www.gw1.example.", "TXT", "kept", zone="gw1.example") == "NOERROR"
    alice.sees("x.alice.example", "TXT", '"kept"')
    fleet.reconciler.stop()
    lost = alice.update("alice.example")
    lost.add("y", 60, "TXT", "no")
    assert alice.code(lost.to_wire()) == dns.rcode.SERVFAIL
    with fleet.redis() as client:
        client.flushall()
    fleet.reconciler = planes()
    for name in ("x.alice.example", "_acme-challenge.www.gw1.example"):
        alice.sees(name, "TXT", '"kept"')
    until(lambda: fleet.get("alice.example.", "x"), "it is in redis again")
    with fleet.redis() as client:
        client.hset("alice.example.", "z", json.dumps({"rr": [{"type": 16, "ttl": 60, "data": "0178"}]}))
    until(lambda: fleet.get("alice.example.", "z") is None, "what the journal does not know is taken out")


def test_what_was_answered_is_there_after_a_crash(alice: Tenant, planes: Callable[[], Any]) -> None:
    """Of the reconciler, with redis emptied meanwhile: the journal was on the disk before the answer."""
    fleet = alice.fleet
    for number in range(5):
        # After a start, what redis lost has to come back before anything is taken.
        message = alice.update("alice.example")
        message.add(f"x{number}", 60, "TXT", "kept")
        alice.taken(message)
        if number % 2:
            fleet.reconciler.kill()
            with fleet.redis() as client:
                client.flushall()
            fleet.reconciler = planes()
    for number in range(5):
        alice.sees(f"x{number}.alice.example", "TXT", '"kept"')


def test_a_journal_begins_with_what_redis_has(alice: Tenant, planes: Callable[[], Any], tmp_path: Path) -> None:
    """As on a node that was restored from a backup, which has redis' data."""
    fleet = alice.fleet
    assert alice.add("x.alice.example.", "TXT", "kept") == "NOERROR"
    until(lambda: fleet.get("alice.example.", "x"), "it is in redis")
    fleet.reconciler.stop()
    (tmp_path / "state" / "updates.journal").unlink()
    fleet.reconciler = planes()
    until(lambda: (tmp_path / "state" / "updates.journal").exists(), "a journal was begun")
    fleet.reconciler.wait_log("journal of updates begun with what redis has")
    message = alice.update("alice.example")
    message.add("y", 60, "TXT", "new")
    alice.taken(message)
    alice.sees("y.alice.example", "TXT", '"new"')
    alice.sees("x.alice.example", "TXT", '"kept"')


def test_state_tells_them_apart(alice: Tenant) -> None:
    fleet = alice.fleet
    assert fleet.state()["updated"] == []
    assert alice.add("www.gw1.example.", "CAA", '0 issue ";"', zone="gw1.example") == "NOERROR"
    assert alice.add("alice.example.", "TXT", "x") == "NOERROR"
    alice.sees("alice.example", "TXT", '"x"')
    found = until(lambda: (state := fleet.state())["updated"] and state, "state has them")
    assert found["updated"] == [
        {"name": "alice.example", "types": ["TXT"], "records": 1},
        {"name": "www.gw1.example", "types": ["CAA"], "records": 1},
    ]
    assert {one["domain"]: one["verdict"] for one in found["reservations"]}["www.gw1.example"] == "in_sync"
    assert "records by updates" in fleet.run("state").stdout


def test_they_go_with_their_reservation(alice: Tenant) -> None:
    fleet = alice.fleet
    fleet.deployed(fleet.reserve(Subdomain(node_id=fleet.node_id, domain="other.gw1.example", ips=("203.0.113.5",))))
    assert alice.add("x.alice.example.", "TXT", "x") == "NOERROR"
    assert alice.add("_acme-challenge.www.gw1.example.", "TXT", "x", zone="gw1.example") == "NOERROR"
    alice.sees("_acme-challenge.www.gw1.example", "TXT", '"x"')
    for number in alice.numbers:
        fleet.delete(number)
        fleet.gone(number)
    until(lambda: fleet.get("gw1.example.", "_acme-challenge.www") is None, "it goes with the subdomain")
    until(lambda: fleet.get("alice.example.", "x") is None, "it goes with the zone")
    assert alice.add("_acme-challenge.www.gw1.example.", "TXT", "x", zone="gw1.example") == "REFUSED"
    number = fleet.reserve(DomainDelegate(node_id=fleet.node_id, domain="alice.example"))
    fleet.deployed(number)
    assert alice.add("y.alice.example.", "TXT", "new") == "NOERROR"
    alice.sees("y.alice.example", "TXT", '"new"')
    assert alice.answers("x.alice.example", "TXT") == []


def test_a_repeated_message_is_carried_out_once(alice: Tenant) -> None:
    """Clients repeat what got no answer; others may repeat what they saw."""
    message = alice.update("alice.example")
    message.add("x", 60, "TXT", "x")
    raw = message.to_wire()
    assert alice.code(raw) == dns.rcode.NOERROR
    removal = alice.update("alice.example")
    removal.delete("x")
    assert alice.send(removal) == "NOERROR"
    assert alice.code(raw) == dns.rcode.NOERROR
    assert alice.answers("x.alice.example", "TXT") == []


def test_a_zone_is_copied_with_its_owners_key(alice: Tenant) -> None:
    """As external-dns and octodns do."""
    assert alice.add("x.alice.example.", "TXT", "x") == "NOERROR"
    alice.sees("x.alice.example", "TXT", '"x"')
    key = dns.tsig.Key(alice.key_name, alice.secret, "hmac-sha256")

    def copy(zone: str) -> dns.zone.Zone:
        query, _ = dns.xfr.make_query(dns.zone.Zone(zone), keyring={key.name: key}, keyname=key.name)
        copied = dns.zone.Zone(zone)
        dns.query.inbound_xfr("127.0.0.1", copied, query, port=alice.port, timeout=LIMIT)
        return copied

    assert copy("alice.example").find_rdataset("x", "TXT")[0].to_text() == '"x"'
    with pytest.raises(dns.xfr.TransferError, match="REFUSED"):
        copy("gw1.example")
