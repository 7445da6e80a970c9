"""Static services of an old ``router.toml``."""

from __future__ import annotations

import pytest
from tfgateway.errors import ConfigError
from tfgateway.proxy.routing.router_file import parse_router_toml
from tfgateway.proxy.routing.table import Route, StaticRoutes

FILE = b"""
unknown = 1
[server]
addr = "0.0.0.0"
port = 443
httpport = 80
clientsport = 18000
[server.dbbackend]
type = "redis"
password = "never used"
[server.services."web.example"]
addr = "192.0.2.1"
tlsport = 443
httpport = 80
[server.services."tunnel.example"]
clientsecret = "s3cr3t"
[server.services."CATCH_ALL"]
addr = "::1"
tlsport = 8443
"""


def test_the_file_of_the_old_router() -> None:
    routes, problems = parse_router_toml(FILE, "router.toml")
    assert problems == ()
    assert routes == StaticRoutes(
        {
            "web.example": Route("192.0.2.1", 80, 443, by_operator=True),
            "tunnel.example": Route("", 0, 0, by_operator=True, secret=b"s3cr3t"),
        },
        Route("::1", 0, 8443, by_operator=True),
    )


def test_keys_match_in_any_case() -> None:
    raw = b'[SERVER.Services."web.example"]\nADDR = "192.0.2.1"\nHttpPort = 8080\nTLSport = 1\ntlsport = 2\n'
    routes, problems = parse_router_toml(raw, "router.toml")
    assert problems == ()
    assert routes.by_host == {"web.example": Route("192.0.2.1", 8080, 2, by_operator=True)}


def test_t19_names_are_lowered_and_lose_their_final_dot() -> None:
    raw = b'[server.services."Web.Example."]\naddr = "192.0.2.1"\n[server.services.catch_all]\naddr = "192.0.2.2"\n'
    routes, problems = parse_router_toml(raw, "router.toml")
    assert problems == ()
    assert set(routes.by_host) == {"web.example", "catch_all"}
    assert routes.catch_all is None


def test_names_of_internationalised_domains_are_what_visitors_ask_for() -> None:
    raw = '[server.services."Bücher.example"]\naddr = "192.0.2.1"\n[server.services."a..ü"]\naddr = "192.0.2.1"\n'
    routes, problems = parse_router_toml(raw.encode(), "router.toml")
    assert set(routes.by_host) == {"xn--bcher-kva.example"}
    assert problems == ("router.toml: service 'a..ü' skipped: not an internationalised host name",)


@pytest.mark.parametrize("order", [("WEB.example", "web.example"), ("web.example", "WEB.example")])
def test_t19_of_two_spellings_the_one_served_before_wins(order: tuple[str, str]) -> None:
    address = {"WEB.example": "192.0.2.66", "web.example": "192.0.2.1"}
    raw = "".join(f'[server.services."{name}"]\naddr = "{address[name]}"\n' for name in order)
    routes, problems = parse_router_toml(raw.encode(), "router.toml")
    assert routes.by_host["web.example"].address == "192.0.2.1"
    assert len(problems) == 1
    assert "WEB.example" in problems[0]


@pytest.mark.parametrize(
    "members",
    [
        'addr = "localhost"',
        "httpport = 80",
        'addr = "192.0.2.1"\nhttpport = "80"',
        'addr = "192.0.2.1"\nhttpport = true',
        'addr = "192.0.2.1"\ntlsport = 65536',
        "addr = 1",
        'clientsecret = ["s3cr3t"]',
    ],
)
def test_t1_t13_a_bad_service_is_skipped_and_named_without_its_values(members: str) -> None:
    raw = f'[server.services."bad.example"]\n{members}\n[server.services."good.example"]\naddr = "192.0.2.1"\n'
    routes, problems = parse_router_toml(raw.encode(), "router.toml")
    assert set(routes.by_host) == {"good.example"}
    assert len(problems) == 1
    assert "bad.example" in problems[0]
    assert "s3cr3t" not in problems[0]


def test_a_service_that_is_no_table_is_skipped() -> None:
    routes, problems = parse_router_toml(b'[server.services]\n"bad.example" = 1\n', "router.toml")
    assert routes == StaticRoutes({}, None)
    assert len(problems) == 1


@pytest.mark.parametrize("raw", [b"", b"[server]\n", b"[server.services]\n"])
def test_a_file_without_services(raw: bytes) -> None:
    assert parse_router_toml(raw, "router.toml") == (StaticRoutes({}, None), ())


@pytest.mark.parametrize("raw", [b"[server\n", b"\xff", b"server = 1\n", b"[server]\nservices = []\n"])
def test_a_file_that_cannot_be_read_names_itself(raw: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^router\.toml: "):
        parse_router_toml(raw, "router.toml")
