from __future__ import annotations

from pathlib import Path

import pytest

from demo import checks
from testbed.containers import image
from testbed.errors import FleetError

ROUTES = [
    {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"},
    {"dst": "10.91.0.0/16", "dev": "tun0"},
    {"dst": "192.0.2.7", "dev": "eth0"},
]


def test_a_route_into_the_network_is_named() -> None:
    assert checks.overlapping(ROUTES, "10.91.7.0/24") == "10.91.0.0/16 on tun0"
    assert checks.overlapping(ROUTES, "192.0.2.0/24") == "192.0.2.7 on eth0"


def test_default_routes_and_strangers_do_not_matter() -> None:
    assert checks.overlapping(ROUTES, "10.92.7.0/24") is None
    assert checks.overlapping([], "fd91:7::/64") is None


def test_who_holds_the_resolver_port_on_every_address() -> None:
    stub = 'UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=53,fd=19))'
    dnsmasq = 'UNCONN 0 0 0.0.0.0:53 0.0.0.0:* users:(("dnsmasq",pid=7,fd=4))'
    assert checks.holder(stub) is None
    assert checks.holder(f"{stub}\n{dnsmasq}") == "dnsmasq"
    assert checks.holder("UNCONN 0 0 [::]:53 [::]:*") == "a program"


def test_no_space_is_one_line_that_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_SPACE", 2**60)
    with pytest.raises(FleetError) as raised:
        checks.space(tmp_path / "not" / "there" / "yet")
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_network_names_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFGATEWAY_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    with pytest.raises(FleetError, match=r"http://127\.0\.0\.1:9/debian cannot be reached"):
        checks.network()


def test_without_a_choice_the_mirror_is_debootstraps_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "debootstrap"
    program.write_text('#!/bin/sh\nDEF_MIRROR="http://mirror.example/debian"\nMIRRORS="$DEF_MIRROR"\n')
    program.chmod(0o755)
    monkeypatch.delenv("TFGATEWAY_DEBIAN_MIRROR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert image.mirror() == "http://mirror.example/debian"
    program.write_text("#!/bin/sh\n")
    assert image.mirror() == ""
    checks.network()  # nothing to ask is no error
