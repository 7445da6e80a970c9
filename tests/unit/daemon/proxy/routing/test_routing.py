"""The lookup order, and what of redis is never believed."""

from __future__ import annotations

import pytest
from tfgateway.errors import SchemaError
from tfgateway.proxy.protocol import Protocol
from tfgateway.proxy.routing.table import Route, RouteTable, StaticRoutes, route_of
from tfgateway.redis_schema.keys import SERVICE_PREFIX, service_key
from tfgateway.redis_schema.services import Service, encode_service

SECRET = "7:s3cr3t-tunnel-key"


def table_of(static: StaticRoutes) -> RouteTable:
    return RouteTable(static, Secrets())


def static(address: str) -> Route:
    return Route(address, 80, 443, by_operator=True)


def tenant(address: str) -> Route:
    return Route(address, 80, 443, by_operator=False)


def put(table: RouteTable, domain: str, **members: str | int) -> None:
    service = Service(**{"addr": "203.0.113.10", "httpport": 80, "tlsport": 443, "user": "7"} | members)  # type: ignore[arg-type]
    table.update(service_key(domain).encode(), encode_service(domain, service))


def test_lookup_order_is_file_then_redis_then_catch_all() -> None:
    table = table_of(StaticRoutes({"both.example": static("192.0.2.1")}, catch_all=static("192.0.2.9")))
    put(table, "both.example")
    put(table, "redis.example")
    assert table.find("both.example") == static("192.0.2.1")
    assert table.find("redis.example") == tenant("203.0.113.10")
    assert table.find("other.example") == static("192.0.2.9")


def test_nothing_is_found_without_a_catch_all() -> None:
    table = table_of(StaticRoutes())
    put(table, "web.example")
    assert table.find("other.example") is None
    assert table.find("sub.web.example") is None
    assert table.find("example") is None
    assert table.find("") is None


def test_t8_the_empty_host_of_redis_is_never_found() -> None:
    table = table_of(StaticRoutes())
    put(table, "")
    assert len(table) == 0
    assert table.find("") is None
    with_catch_all = table_of(StaticRoutes(catch_all=static("192.0.2.9")))
    put(with_catch_all, "")
    assert with_catch_all.find("") == static("192.0.2.9")


def test_t8_a_static_service_without_a_name_is_never_found() -> None:
    assert table_of(StaticRoutes({"": static("192.0.2.1")})).find("") is None


def test_t9_catch_all_of_redis_catches_nothing() -> None:
    table = table_of(StaticRoutes())
    put(table, "CATCH_ALL")
    assert table.find("other.example") is None
    assert table.find("catch_all") is None
    assert table.find("") is None


@pytest.mark.parametrize(
    "address", ["", "localhost", "web.example", "127.1", "203.0.113.10:80", "fe80::1%eth0", "0x7f000001"]
)
def test_t1_an_address_that_is_no_literal_is_no_route(address: str) -> None:
    table = table_of(StaticRoutes())
    with pytest.raises(SchemaError):
        put(table, "web.example", addr=address)
    assert table.find("web.example") is None


@pytest.mark.parametrize(
    ("address", "canonical"),
    [("2001:DB8:0::1", "2001:db8::1"), ("::ffff:203.0.113.10", "203.0.113.10"), ("203.0.113.10", "203.0.113.10")],
)
def test_t1_addresses_get_their_canonical_form(address: str, canonical: str) -> None:
    assert route_of(Service(addr=address, httpport=80), by_operator=False).address == canonical


@pytest.mark.parametrize("members", [{"httpport": -1}, {"tlsport": 65536}, {"httpport": 2**40}])
def test_ports_out_of_range_are_no_route(members: dict[str, int]) -> None:
    with pytest.raises(SchemaError):
        put(table_of(StaticRoutes()), "web.example", **members)


def test_the_kind_of_traffic_chooses_the_port() -> None:
    route = route_of(Service(addr="203.0.113.10", httpport=8080, tlsport=0), by_operator=False)
    assert route.port(Protocol.HTTP) == 8080
    assert route.port(Protocol.TLS) == 0


def test_a_client_secret_makes_a_tunnel_and_the_address_is_ignored() -> None:
    table = table_of(StaticRoutes())
    put(table, "tunnel.example", clientsecret=SECRET, addr="127.0.0.1")
    assert table.find("tunnel.example") == Route("", 0, 0, by_operator=False, secret=SECRET.encode())


def test_t13_routes_and_errors_do_not_show_the_secret() -> None:
    table = table_of(StaticRoutes())
    put(table, "tunnel.example", clientsecret=SECRET)
    assert SECRET not in repr(table.find("tunnel.example"))
    with pytest.raises(SchemaError) as caught:
        table.update(b"/tcprouter/service/web.example", b'{"Value":"' + SECRET.encode() + b'"}')
    assert SECRET not in str(caught.value)


def test_a_service_changes_and_goes() -> None:
    table = table_of(StaticRoutes())
    put(table, "web.example")
    put(table, "web.example", addr="203.0.113.11")
    assert table.find("web.example") == tenant("203.0.113.11")
    table.update(service_key("web.example").encode(), None)
    assert table.find("web.example") is None
    assert len(table) == 0


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"[]", b"rubbish", b'{"Value":"%%%"}', b'{"Value":"e30="}', b'{"Value":"W10="}', b"\xff\xfe"],
)
def test_a_damaged_value_takes_only_its_own_service(value: bytes) -> None:
    table = table_of(StaticRoutes())
    put(table, "web.example")
    put(table, "neighbour.example")
    with pytest.raises(SchemaError):
        table.update(service_key("web.example").encode(), value)
    assert table.find("web.example") is None
    assert table.find("neighbour.example") == tenant("203.0.113.10")


@pytest.mark.parametrize("key", [SERVICE_PREFIX.encode(), SERVICE_PREFIX.encode() + b"\xff", b"other"])
def test_t8_keys_without_a_domain_are_passed_over(key: bytes) -> None:
    table = table_of(StaticRoutes())
    table.update(key, encode_service("x", Service(addr="203.0.113.10", httpport=80)))
    assert len(table) == 0


def test_names_with_capitals_in_redis_stay_unreachable() -> None:
    """As for the old router: or else WEB.example would take the visitors of somebody else's web.example."""
    table = table_of(StaticRoutes())
    put(table, "WEB.example", addr="203.0.113.66")
    assert table.find("web.example") is None
    put(table, "web.example")
    assert table.find("web.example") == tenant("203.0.113.10")


class Secrets:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def add_secret(self, secret: bytes) -> None:
        self.heard.append(("add", secret))

    def remove_secret(self, secret: bytes) -> None:
        self.heard.append(("remove", secret))

    def next(self) -> list[tuple[str, bytes]]:
        heard, self.heard = self.heard, []
        return heard


def test_t4_tunnels_hear_which_secrets_there_are() -> None:
    """Once for a secret that several services share; a service that keeps its secret cuts no session."""
    static_one = Route("", 0, 0, by_operator=True, secret=b"static")
    secrets = Secrets()
    table = RouteTable(StaticRoutes({"static.example": static_one}, catch_all=static_one), secrets)
    assert secrets.next() == [("add", b"static")]
    put(table, "one.example", clientsecret="shared")
    put(table, "two.example", clientsecret="shared")
    put(table, "two.example", clientsecret="shared", httpport=8080)
    assert secrets.next() == [("add", b"shared")]
    put(table, "one.example", clientsecret="other")
    assert secrets.next() == [("add", b"other")]
    with pytest.raises(SchemaError):
        table.update(service_key("two.example").encode(), b"rubbish")
    assert secrets.next() == [("remove", b"shared")]
    table.update(service_key("one.example").encode(), None)
    assert secrets.next() == [("remove", b"other")]


def test_an_internationalised_name_in_redis_is_found_as_browsers_ask_for_it() -> None:
    """RFC 5890; whoever wrote the entry by hand may have written it as people read it."""
    table = table_of(StaticRoutes())
    put(table, "bücher.example")
    assert table.find("xn--bcher-kva.example") == tenant("203.0.113.10")
    put(table, "xn--bcher-kva.example", addr="203.0.113.11")
    assert table.find("xn--bcher-kva.example") == tenant("203.0.113.11")
    assert table.find("xn--nothing-\x00.example") is None
    assert table.find("xn--.example") is None


@pytest.mark.parametrize("address", ["256.0.2.1", "192.0.2.01", "192.0.2", "192.0.2.1.1", "192.0.2.1\n", "١٩٢.0.2.1"])
def test_t1_what_only_looks_like_an_address_is_refused(address: str) -> None:
    with pytest.raises(SchemaError):
        route_of(Service(addr=address, httpport=80), by_operator=False)
