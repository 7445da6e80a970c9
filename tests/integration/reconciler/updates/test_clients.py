"""Clients as users have them, configured by what ``tfgateway reserve dns-key`` prints, and a real ACME server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.integration.reconciler.updates.conftest import Tenant
from tests.support import ansible_module
from tests.support.waiting import until

ENDS = 120
"""Seconds for a program to end."""


class Pebble:
    """Let's Encrypt's own test server; it asks the gateway's DNS for challenges."""

    def __init__(self, directory: Path, start_process: Any, port: int, management: int, dns_port: int) -> None:
        certificate, key = directory / "pebble.pem", directory / "pebble.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        self.certificate = certificate
        self.url = f"https://localhost:{port}/dir"
        config = {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(certificate),
            "privateKey": str(key),
            "httpPort": 1,
            "tlsPort": 1,
        }
        (directory / "pebble.json").write_text(json.dumps({"pebble": config}))
        program = shutil.which("pebble")
        assert program is not None, "pebble comes with tools/setup.py test"
        command = [program, "-config", str(directory / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns_port}"]
        environ = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        self._process = start_process("pebble", command, environ)
        until(lambda: "ACME directory available" in self._process.log, "pebble serves")


@pytest.fixture
def pebble(alice: Tenant, tmp_path: Path, start_process: Any, free_port: Callable[[], int]) -> Iterator[Pebble]:
    yield Pebble(tmp_path, start_process, free_port(), free_port(), alice.port)


def printed(alice: Tenant, client: str) -> str:
    server = f"127.0.0.1:{alice.port}"
    return alice.reserve("dns-key", "--node", alice.fleet.node_id, "--for", client, "--server", server)


def run(*command: str, text: str = "", **environ: str) -> str:
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=ENDS, env=os.environ | environ, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names_of(certificate: Path) -> set[str]:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return set(
        found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    )


def test_nsupdate(alice: Tenant, tmp_path: Path) -> None:
    key = tmp_path / "tfgateway.key"
    key.write_text(printed(alice, "nsupdate"))
    server = key.read_text().split('"')[1]
    run("nsupdate", "-k", str(key), text=f"{server}\nupdate add x.alice.example. 60 TXT hello\nsend\n")
    alice.sees("x.alice.example", "TXT", '"hello"')


def test_certbot(alice: Tenant, pebble: Pebble, tmp_path: Path) -> None:
    """A wildcard certificate for a delegated domain, renewed, and one for a subdomain in a managed domain."""
    credentials = tmp_path / "tfgateway.ini"
    credentials.write_text(printed(alice, "certbot"))
    credentials.chmod(0o600)
    places = [f"--{name}-dir={tmp_path / name}" for name in ("config", "work", "logs")]
    options = [*places, f"--server={pebble.url}", "--non-interactive", "--dns-rfc2136-propagation-seconds=0"]
    options += ["--dns-rfc2136", f"--dns-rfc2136-credentials={credentials}"]
    account = ["--agree-tos", "--register-unsafely-without-email"]
    trust = {"REQUESTS_CA_BUNDLE": str(pebble.certificate)}
    run("/usr/bin/certbot", "certonly", *options, *account, "-d", "alice.example", "-d", "*.alice.example", **trust)
    live = tmp_path / "config/live/alice.example/cert.pem"
    assert names_of(live) == {"alice.example", "*.alice.example"}
    before = live.read_bytes()
    run("/usr/bin/certbot", "renew", *options, "--force-renewal", "--no-random-sleep-on-renew", **trust)
    assert live.read_bytes() != before
    run("/usr/bin/certbot", "certonly", *options, "-d", "www.gw1.example", "-d", "*.www.gw1.example", **trust)
    assert names_of(tmp_path / "config/live/www.gw1.example/cert.pem") == {"www.gw1.example", "*.www.gw1.example"}
    alice.sees("_acme-challenge.alice.example", "TXT")
    alice.sees("_acme-challenge.www.gw1.example", "TXT")


def test_lego(alice: Tenant, pebble: Pebble, tmp_path: Path) -> None:
    environ = tmp_path / "tfgateway.env"
    environ.write_text(printed(alice, "lego"))
    resolver = f"127.0.0.1:{alice.port}"
    command = ["lego", "--server", pebble.url, "--accept-tos", "--email", "alice@example.org", "--path", str(tmp_path)]
    command += ["--dns", "rfc2136", "--dns.resolvers", resolver, "--dns.disable-cp", "--domains", "*.alice.example"]
    script = f'. "{environ}"; exec "$@"'
    trust = {"LEGO_CA_CERTIFICATES": str(pebble.certificate)}
    run("sh", "-c", script, "sh", *command, "run", **trust)
    assert names_of(tmp_path / "certificates/_.alice.example.crt") == {"*.alice.example"}
    alice.sees("_acme-challenge.alice.example", "TXT")


def test_configurations_have_the_key(alice: Tenant, tmp_path: Path) -> None:
    """Of clients that no package of the test host has: what they are given is well-formed, and is of this key."""
    for client in ("cert-manager", "octodns"):
        assert all(isinstance(part, dict) for part in yaml.safe_load_all(printed(alice, client)))
    name, _, secret = alice.reserve("dns-key", "--node", alice.fleet.node_id).split()
    assert name == alice.key_name
    for client in ("acme.sh", "cert-manager", "external-dns", "octodns"):
        text = printed(alice, client)
        assert secret in text
        assert name.rstrip(".") in text
        assert str(alice.port) in text
    script = tmp_path / "acme.env"
    script.write_text(printed(alice, "acme.sh"))
    shown = run("sh", "-c", f'. "{script}"; cat "$NSUPDATE_KEY"; stat -c %a "$NSUPDATE_KEY"', HOME=str(tmp_path))
    assert secret in shown
    assert shown.endswith("600\n")


class TestRecord:
    """``tfgateway reserve record``."""

    @staticmethod
    def record(alice: Tenant, word: str, *arguments: str) -> Any:
        server = f"127.0.0.1:{alice.port}"
        return json.loads(
            alice.reserve("record", word, "--node", alice.fleet.node_id, "--server", server, *arguments, "--json")
        )

    def test_added_once_listed_and_removed(self, alice: Tenant) -> None:
        name = "x.alice.example"
        first = self.record(alice, "add", name, "TXT", '"one"')
        assert first["changed"]
        assert first["before"] == []
        alice.sees(name, "TXT", '"one"')
        assert not self.record(alice, "add", name, "TXT", '"one"')["changed"]
        assert self.record(alice, "add", "--check", name, "TXT", '"two"')["changed"]
        alice.sees(name, "TXT", '"one"')
        assert self.record(alice, "add", name, "TXT", '"two"')["changed"]
        alice.sees(name, "TXT", '"one"', '"two"')
        replaced = self.record(alice, "add", "--replace", name, "TXT", '"three"')
        assert [line["data"] for line in replaced["after"]] == ['"three"']
        alice.sees(name, "TXT", '"three"')
        assert not self.record(alice, "add", "--replace", name, "TXT", '"three"')["changed"]
        (line,) = [line for line in self.record(alice, "list", "alice.example") if line["name"] == name]
        assert line == {"name": name, "type": "TXT", "ttl": 300, "data": '"three"'}
        assert self.record(alice, "remove", name, "TXT", '"three"')["changed"]
        alice.sees(name, "TXT")
        assert not self.record(alice, "remove", name)["changed"]

    def test_of_a_subdomain_in_a_managed_domain(self, alice: Tenant) -> None:
        self.record(alice, "add", "_acme-challenge.www.gw1.example", "TXT", '"token"')
        alice.sees("_acme-challenge.www.gw1.example", "TXT", '"token"')
        listed = [(line["type"], line["data"]) for line in self.record(alice, "list", "www.gw1.example")]
        assert listed == [("A", "203.0.113.5"), ("TXT", '"token"')]

    def test_what_is_refused_says_why(self, alice: Tenant) -> None:
        self.record(alice, "add", "x.alice.example", "TXT", '"x"')
        with pytest.raises(AssertionError, match="an alias has no others"):
            self.record(alice, "add", "x.alice.example", "CNAME", "y.alice.example.")
        with pytest.raises(AssertionError, match="REFUSED: the name is not yours"):
            self.record(alice, "add", "mail.gw1.example", "A", "192.0.2.1")
        with pytest.raises(AssertionError, match="is in no zone of this gateway"):
            self.record(alice, "add", "mail.elsewhere.example", "A", "192.0.2.1")


def test_the_module(alice: Tenant, tmp_path: Path) -> None:
    """Ansible's: check mode, difference, and no change the second time."""
    options = {
        "program": str(Path(sys.executable).with_name("tfgateway")),
        "explorer": alice.fleet.url,
        "seed": str(alice.seed),
        "node": alice.fleet.node_id,
        "server": f"127.0.0.1:{alice.port}",
        "name": "alice.example",
        "type": "MX",
    }

    def module(**more: Any) -> Any:
        return ansible_module.run("dns_record", tmp_path, **{**options, **more})

    wanted = {"data": ["10 mail.alice.example."]}
    foreseen = module(**wanted, check=True, diff=True)
    assert foreseen["changed"]
    assert foreseen["diff"]["before"] == []
    alice.sees("alice.example", "MX")
    made = module(**wanted)
    assert (made["changed"], made["records"]) == (True, foreseen["diff"]["after"])
    alice.sees("alice.example", "MX", "10 mail.alice.example.")
    assert not module(**wanted)["changed"]
    assert module(data=["20 mail.alice.example."])["changed"]
    alice.sees("alice.example", "MX", "20 mail.alice.example.")
    assert module(state="absent")["changed"]
    alice.sees("alice.example", "MX")
    assert not module(state="absent")["changed"]
