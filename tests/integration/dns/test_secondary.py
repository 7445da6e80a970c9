"""Secondaries that are not ours: zones copied with and without TSIG, changes told by NOTIFY (D-10)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import dns.edns
import dns.rcode
import pytest

from .conftest import KEY, LIMIT, SECRET, ask

ADDRESS = {"a": [{"ip": "203.0.113.5"}]}
ZONES = {"gw1.example.": {"www": ADDRESS}, "alice.example.": {"@": ADDRESS}}


@pytest.mark.parametrize("key", [KEY, "NOKEY"])
def test_nsd_copies_zones_and_hears_of_changes(gateway, nsd, free_port: Callable[[], int], key) -> None:
    port = free_port()
    name = "" if key == "NOKEY" else f'key = "{key}"'
    running = gateway(
        ZONES,
        dns=f"""
            [[dns.transfer]]
            network = "127.0.0.0/8"
            {name}
            [[dns.notify]]
            address = "127.0.0.1:{port}"
            {name}
        """,
    )
    secondary = nsd(port, running.port, list(ZONES), key)
    secondary.wait_for(lambda: all(secondary.serial(zone) for zone in ZONES), "copies")
    assert ask(port, "www.gw1.example").answer[0][0].address == "203.0.113.5"
    before = secondary.serial("gw1.example.")
    assert before == ask(running.port, "gw1.example", "SOA").answer[0][0].serial
    running.write("gw1.example.", {"new": ADDRESS})
    secondary.wait_for(lambda: ask(port, "new.gw1.example").answer, "the new name")
    assert secondary.serial("gw1.example.") > before
    metrics = running.metrics()
    assert metrics['tfgateway_dns_notifies_total{outcome="acknowledged"}'] >= 1
    assert metrics['tfgateway_dns_transfers_total{outcome="full"}'] >= 3
    assert ("tfgateway_dns_signed_queries_total" in "".join(metrics)) == bool(name)
    assert SECRET not in running.process.log
    assert '"level": "error"' not in running.process.log


def test_secondary_that_is_away_is_told_later(gateway, nsd, free_port: Callable[[], int]) -> None:
    port = free_port()
    running = gateway(
        ZONES, dns=f'[[dns.transfer]]\nnetwork = "127.0.0.1/32"\n[[dns.notify]]\naddress = "127.0.0.1:{port}"'
    )
    secondary = nsd(port, running.port, list(ZONES), "NOKEY")
    secondary.wait_for(lambda: all(secondary.serial(zone) for zone in ZONES), "copies")
    running.process.wait_for(
        lambda: running.metrics().get('tfgateway_dns_notifies_total{outcome="acknowledged"}', 0) >= 2,
        "acknowledgements",
    )


@pytest.mark.parametrize("tool", ["dig", "kdig"])
def test_whole_zone_by_the_tools_that_everybody_uses(gateway, tool) -> None:
    fields = {f"n{number}": {"txt": [{"text": f"{number:04}" * 50}]} for number in range(1000)}
    running = gateway({"big.example.": fields}, dns=f'[[dns.transfer]]\nnetwork = "127.0.0.1/32"\nkey = "{KEY}"')
    asked = [tool, "@127.0.0.1", "-p", str(running.port), "-t", "AXFR", "big.example", "+time=20"]
    signed = [*asked, "-y", f"hmac-sha256:{KEY}:{SECRET}"]
    lines = subprocess.run(signed, capture_output=True, text=True, check=True, timeout=LIMIT).stdout.splitlines()
    records = [line for line in lines if line and not line.startswith(";") and "\tTSIG\t" not in line]
    records = [line for line in records if " TSIG " not in line.replace("\t", " ")]
    assert len(records) == 1000 + 2 + 2
    assert all(" SOA " in records[at].replace("\t", " ") for at in (0, -1))
    unsigned = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=LIMIT).stdout
    assert "n999.big.example" not in unsigned
    assert ask(running.port, "big.example", "AXFR", tcp=True).rcode() == dns.rcode.REFUSED


def test_cookies_of_nsd_are_ours_too(gateway, nsd, free_port: Callable[[], int]) -> None:
    """RFC 9018: servers of different make behind one address share a secret."""
    secret = "e5e973e5a6b2a43f48e7dc849e37bfcf"
    running = gateway(
        ZONES, dns='[[dns.transfer]]\nnetwork = "127.0.0.1/32"', secrets_text=f'cookies = ["{"00" * 16}", "{secret}"]'
    )
    options = f"answer-cookie: yes\n  cookie-secret: {secret}"
    secondary = nsd(free_port(), running.port, list(ZONES), "NOKEY", options)
    secondary.wait_for(lambda: secondary.serial("gw1.example."), "a copy")
    asked = dns.edns.GenericOption(10, b"12345678")
    (made,) = ask(secondary.port, "www.gw1.example", use_edns=0, options=[asked]).options
    (renewed,) = ask(running.port, "www.gw1.example", use_edns=0, options=[made]).options
    assert running.metrics()['tfgateway_dns_cookies_total{outcome="valid"}'] == 1
    assert renewed.to_wire() != made.to_wire()  # by the first of the two secrets
    assert ask(running.port, "www.gw1.example", use_edns=0, options=[renewed]).options == (renewed,)
