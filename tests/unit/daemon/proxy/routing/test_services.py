"""The operator's services as routes."""

from __future__ import annotations

import msgspec
import pytest
from tfgateway import settings
from tfgateway.errors import ConfigError
from tfgateway.proxy.protocol import HTTP, TLS
from tfgateway.proxy.routing.static_services import static_services
from tfgateway.proxy.routing.table import Route, StaticRoutes
from tfgateway.settings import CheckSettings, ServiceSettings


def services(text: str) -> tuple[ServiceSettings, ...]:
    return settings.parse(text.encode()).proxy.services


WEB = """
[[proxy.services]]
names = ["WWW.Example.", "bücher.example"]
targets = [{ address = "192.0.2.1", http_port = 8080 }, { address = "app.internal", http_port = 80, weight = 3 }]
balance = "least_connections"
allow = ["192.0.2.0/24"]
proxy_protocol = "v2"
slow_start = 30
check = { type = "http", path = "/health", rise = 1, fall = 5 }
[[proxy.services]]
names = ["CATCH_ALL"]
tunnel_secret = "s3cr3t"
"""


def test_a_service_with_all_it_can_have() -> None:
    routes, watched = static_services(services(WEB), StaticRoutes())
    route = routes.by_host["www.example"]
    assert routes.by_host["xn--bcher-kva.example"] is route  # RFC 5890: what a browser asks for
    assert route.takes(HTTP)
    assert not route.takes(TLS)
    assert route.by_operator
    options, pool = route.options, route.pool
    assert options is not None
    assert pool is not None
    assert options.proxy_protocol == 2
    assert options.allows("192.0.2.77")
    assert not options.allows("198.51.100.1")
    assert not options.allows("2001:db8::1")
    assert (pool.method, pool.slow_start) == ("least_connections", 30)
    assert [(m.address, m.addresses, m.weight, m.rise, m.fall) for m in pool.members] == [
        ("192.0.2.1", ("192.0.2.1",), 1, 1, 5),
        ("app.internal", (), 3, 1, 5),
    ]
    assert [one.name for one in watched] == ["WWW.Example."]
    assert routes.catch_all is not None
    assert routes.catch_all.secret == b"s3cr3t"
    assert "s3cr3t" not in repr(routes)  # T-13


def test_the_old_file_counts_where_the_new_one_says_nothing() -> None:
    old = Route("192.0.2.9", 80, 443, by_operator=True)
    routes, _ = static_services(services(WEB), StaticRoutes({"www.example": old, "old.example": old}, catch_all=old))
    assert routes.by_host["old.example"] is old
    assert routes.by_host["www.example"] is not old
    assert routes.catch_all is not old
    assert static_services((), StaticRoutes(catch_all=old))[0].catch_all is old


@pytest.mark.parametrize(
    "text",
    [
        '[[proxy.services]]\nnames = ["a.example", "A.example"]\ntunnel_secret = "x"',
        '[[proxy.services]]\nnames = ["CATCH_ALL", "CATCH_ALL"]\ntunnel_secret = "x"',
        '[[proxy.services]]\nnames = ["no host"]\ntunnel_secret = "x"',
        '[[proxy.services]]\nnames = ["xn--\u00e9.example"]\ntunnel_secret = "x"',
        '[[proxy.services]]\nnames = ["a.example"]',
        '[[proxy.services]]\nnames = ["a.example"]\ntunnel_secret = "x"\ntargets = [{ address = "192.0.2.1" }]',
        '[[proxy.services]]\nnames = []\ntunnel_secret = "x"',
        '[[proxy.services]]\nnames = ["a.example"]\ntunnel_secret = "x"\nallow = ["192.0.2.1/24"]',
        '[[proxy.services]]\nnames = ["a.example"]\ntunnel_secret = "x"\nproxy_protocol = "v3"',
    ],
)
def test_what_cannot_be_meant_is_a_wrong_configuration(text: str) -> None:
    with pytest.raises(ConfigError):
        static_services(services(text), StaticRoutes())


ONE = '[{ address = "192.0.2.1", http_port = 80 }]'
TWO = '[{ address = "192.0.2.1", tls_port = 443 }, { address = "two.example", tls_port = 443 }]'
KINDS = {
    "target": {"targets": ONE},
    "targets": {"targets": TWO},
    "checked": {"targets": TWO, "check": "{}"},
    "tunnel": {"tunnel_secret": '"s"'},
}
OPTIONS = {
    "balance": '"least_connections"',
    "check": '{ type = "http" }',
    "slow_start": "30.0",
    "allow": '["198.51.100.0/24"]',
    "proxy_protocol": '"v2"',
}
"""A value of each option that is not its default."""
REFUSED = {
    **{(option, "tunnel"): "tunnel_secret" for option in ("balance", "check", "slow_start")},
    **{("slow_start", kind): "no check" for kind in ("target", "targets")},
}
"""(option, kind of service) -> what the service has, in the words of the error."""
CHECK_OPTIONS = {
    "port": "81",
    "path": '"/health"',
    "host": '"other.example"',
    "interval": "1.0",
    "timeout": "1.0",
    "rise": "1",
    "fall": "1",
}
OF_HTTP = {"path", "host"}


def _effect(text: str) -> object:
    """All that the proxy takes from a service."""
    routes, checked = static_services(services(text), StaticRoutes())
    (route,) = routes.by_host.values()
    pool = None if route.pool is None else (route.pool.method, route.pool.slow_start, len(route.pool.members))
    allows = route.options is not None and route.options.allows("192.0.2.9")
    version = route.options.proxy_protocol if route.options is not None else 0
    return route.secret, pool, allows, version, [one.check for one in checked]


def _service(options: dict[str, str]) -> str:
    lines = [f"{key} = {value}" for key, value in options.items()]
    return "\n".join(["[[proxy.services]]", 'names = ["a.example"]', *lines, ""])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_kind_of_service_has_an_effect_or_is_refused(option: str, kind: str) -> None:
    with_it = _service({**KINDS[kind], option: OPTIONS[option]})
    if (option, kind) in REFUSED:
        with pytest.raises(ConfigError, match=rf"'a.example' has {REFUSED[option, kind]}.* {option} .*no effect"):
            services(with_it)
    else:
        assert _effect(with_it) != _effect(_service(KINDS[kind]))


@pytest.mark.parametrize("kind", ["tcp", "http"])
@pytest.mark.parametrize("option", CHECK_OPTIONS)
def test_every_option_of_every_type_of_check_has_an_effect_or_is_refused(option: str, kind: str) -> None:
    def checked(*options: str) -> str:
        inner = ", ".join([f'type = "{kind}"', *options])
        return _service({"targets": ONE, "check": f"{{ {inner} }}"})

    with_it = checked(f"{option} = {CHECK_OPTIONS[option]}")
    if kind == "tcp" and option in OF_HTTP:
        with pytest.raises(ConfigError, match=rf"'a.example' has a check of type tcp.* {option} has no effect"):
            services(with_it)
    else:
        assert _effect(with_it) != _effect(checked())


def test_no_option_of_a_service_was_forgotten() -> None:
    fields = {field.name for field in msgspec.structs.fields(ServiceSettings)}
    assert fields == {"names", "targets", "tunnel_secret", *OPTIONS}
    assert {field.name for field in msgspec.structs.fields(CheckSettings)} == {"type", *CHECK_OPTIONS}
