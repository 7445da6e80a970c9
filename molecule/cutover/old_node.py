"""What the user of an old node has reserved, and whether it is served, in scenario cutover.

``old_node.py reserve`` reserves it; ``watch`` asks for it until ``watched``, and writes down the longest
times without an answer.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.exception
import dns.message
import dns.query

from testbed import reservations
from testbed.containers import fleet
from testbed.paths import ROOT
from testbed.person import Person
from testbed.reservations import DELEGATED, SITE, Wanted, managed_domain

FLEET = fleet.load(ROOT / "molecule" / "cutover" / "fleet.toml")
NODE = FLEET.nodes[0]
AT = FLEET.address(NODE.host)
NAME = f"www.{managed_domain(NODE)}"
ADDRESS = "203.0.113.5"
FIRST = FLEET.directory / "first-cutover.json"  # what ``watch`` writes down
_WATCHING = FLEET.directory / "watching"  # while it is there


def name_is_served() -> bool:
    """Whether the name is answered with the address."""
    try:
        answer = dns.query.udp(dns.message.make_query(NAME, "A"), AT, timeout=0.2)
    except (OSError, dns.exception.DNSException):
        return False
    return any(ADDRESS in record.to_text() for rrset in answer.answer for record in rrset)


def page_is_served() -> bool:
    """Whether the site's page comes through the gateway."""
    try:
        with socket.create_connection((AT, 80), timeout=0.5) as link:
            link.sendall(f"GET / HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n".encode())
            return b"200" in link.recv(4096)[:20]
    except OSError:
        return False


@contextmanager
def gaps() -> Iterator[dict[str, float]]:
    """Longest time in seconds from one answer to the next, for DNS and HTTP, while the block runs."""
    longest = {"DNS": 0.0, "HTTP": 0.0}
    over = threading.Event()

    def watch(what: str, served: Callable[[], bool]) -> None:
        last = time.monotonic()
        while not over.is_set():
            answered = served()
            now = time.monotonic()
            longest[what] = max(longest[what], now - last)
            if answered:
                last = now
            time.sleep(0.01)

    threads = [
        threading.Thread(target=watch, args=watched) for watched in (("DNS", name_is_served), ("HTTP", page_is_served))
    ]
    for thread in threads:
        thread.start()
    try:
        yield longest
    finally:
        over.set()
        for thread in threads:
            thread.join()


def reserve() -> None:
    """Reserve, and wait until the node serves it."""
    alice = Person(FLEET, "alice")
    alice.register()
    node_ids = reservations.registered(FLEET, alice)
    for group in (
        [
            Wanted(NODE, "subdomain", "subdomain", NAME, (f"--ip={ADDRESS}",)),
            Wanted(NODE, "delegate", "domain_delegate", DELEGATED),
        ],
        [Wanted(NODE, "proxy", "proxy", SITE, (f"--addr={FLEET.web_address}", "--port=80", "--port-tls=443"))],
    ):
        reservations.make(alice, group, node_ids)


def watch() -> None:
    """Until ``watched``; once, since only the first cutover has nobody else who could."""
    _WATCHING.touch()
    with gaps() as longest:
        while _WATCHING.exists():
            time.sleep(0.1)
    FIRST.write_text(json.dumps(longest))


def watched() -> None:
    """End ``watch``, when it runs, and wait for what it has seen."""
    _WATCHING.unlink(missing_ok=True)
    while not FIRST.exists():
        time.sleep(0.1)


if __name__ == "__main__":
    {"reserve": reserve, "watch": watch, "watched": watched}[sys.argv[1]]()
