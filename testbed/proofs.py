"""Proof from the outside: the real ports of the nodes are asked with the tools that anybody has."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from testbed import playbook
from testbed.containers.fleet import Fleet
from testbed.errors import FleetError
from testbed.paths import ROOT
from testbed.reservations import DELEGATED, HOME, SITE, managed_domain

_PATIENCE = 5.0  # seconds from "deployed" at the explorer to an answer
_SENTENCE = re.compile(r"^\s*msg: '?(.*?)'?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Proof:
    """A command, and what its output has to be. ``says``: a few words for the summary, from that output."""

    title: str
    command: list[str]
    holds: Callable[[str], bool]
    says: Callable[[str], str] = str.strip

    @property
    def typed(self) -> str:
        """The command as a person types it in the repository."""
        return shlex.join(self.command)


def proofs(fleet: Fleet) -> list[Proof]:
    """What has to hold once the reservations are deployed."""
    first, second = fleet.nodes[:2]
    at = fleet.address(first.host)
    www = f"www.{managed_domain(first)}"
    other = f"www.{managed_domain(second, '3x0.example')}"
    certificate = f"{fleet.state}/web/certificate.pem"
    return [
        _dig("address in a managed domain", at, [www, "A"], "203.0.113.5"),
        _dig("the same over IPv6, TCP", fleet.address6(first.host), [www, "AAAA", "+tcp"], "2001:db8::5"),
        _dig("the other node, where systemd-resolved was", fleet.address(second.host), [other, "A"], "203.0.113.6"),
        _dig("delegated domain", at, [SITE, "A"], at),
        Proof("its authority", ["dig", f"@{at}", DELEGATED, "SOA", "+short"], lambda text: text.count(" ") == 6),
        Proof(
            "a name that nobody reserved",
            ["dig", f"@{at}", f"nobody.{managed_domain(first)}", "A", "+noall", "+comments"],
            lambda text: "NXDOMAIN" in text,
            lambda _text: "NXDOMAIN",
        ),
        _curl("page over HTTP", at, SITE, "http", 80),
        _curl("page over HTTPS, by SNI", at, SITE, "https", 443, "--cacert", certificate),
        _curl("page through a reverse tunnel over HTTP", at, HOME, "http", 80),
        _curl("the same over HTTPS", at, HOME, "https", 443, "--cacert", home_certificate(fleet)),
        Proof(
            "every reservation, by the gateways' own account",
            [
                "ansible",
                "-i",
                f"{fleet.state}/inventory.yml",
                "gateways",
                "-m",
                "tfgrid.gateway.reservation_state",
            ],
            lambda text: text.count("| SUCCESS") == len(fleet.nodes),
            _verdicts,
        ),
    ]


def home_certificate(fleet: Fleet) -> str:
    """Of the server behind the reverse tunnel; from the repository's root."""
    return f"{fleet.state}/home/certificate.pem"


def prove(proof: Proof) -> str:
    """The answer in a few words; asked again for a moment: "deployed" may be said first. Errors: ``FleetError``."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        done = subprocess.run(
            proof.command,
            cwd=ROOT,
            env=playbook.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode == 0 and proof.holds(done.stdout):
            return proof.says(done.stdout)
        if time.monotonic() > deadline:
            answer = (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"
            raise FleetError(f"not served as reserved: {proof.typed}\n{answer}")
        time.sleep(0.2)


def _dig(title: str, server: str, question: list[str], answer: str) -> Proof:
    return Proof(title, ["dig", f"@{server}", *question, "+short"], lambda text: text.split() == [answer])


def _curl(title: str, address: str, name: str, scheme: str, port: int, *options: str) -> Proof:
    url = f"{scheme}://{name}/"
    resolve = ["--resolve", f"{name}:{port}:{address}"]
    quiet = ["--silent", "--show-error", "--fail", "--max-time", "15"]
    return Proof(title, ["curl", *quiet, *options, *resolve, url], lambda text: text.strip().endswith(url))


def _verdicts(output: str) -> str:
    """The sentence in which each node sums its reservations up."""
    return "; ".join(_SENTENCE.findall(output))
