from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tfgateway import settings
from tfgateway.cli.main import main
from tfgateway.errors import ConfigError
from tfgateway.net.addresses import host_port


def test_an_empty_file_is_all_defaults() -> None:
    assert settings.parse(b"") == settings.Settings()


def test_values_are_read_by_table() -> None:
    text = """
        [redis]
        url = "unix:///run/redis.sock"
        [gateway]
        managed_domains = ["gw1.example", "gw2.example"]
        [gateway.location]
        city = "Ghent"
        [dns]
        listen = ["[::1]:5353", "127.0.0.1:5353"]
        ttl = 60
        [proxy]
        allowed_targets = ["10.0.0.0/8", "fd00::/8"]
        [log]
        level = "debug"
    """
    found = settings.parse(text.encode())
    assert found.redis.url == "unix:///run/redis.sock"
    assert found.gateway.managed_domains == ("gw1.example", "gw2.example")
    assert found.gateway.location.city == "Ghent"
    assert found.dns.listen == ("[::1]:5353", "127.0.0.1:5353")
    assert (found.dns.ttl, found.dns.udp_size) == (60, 1232)
    assert found.proxy.allowed_targets == ("10.0.0.0/8", "fd00::/8")
    assert found.log.level == "debug"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[dns]\nlissten = []", "lissten"),
        ("[dnss]\n", "dnss"),
        ("[dns]\nttl = -1", "dns.ttl"),
        ('[dns]\nttl = "60"', "dns.ttl"),
        ("[dns]\nudp_size = 511", "dns.udp_size"),
        ('[dns]\nlisten = ["53"]', "dns.listen"),
        ('[dns]\nmetrics = "localhost:1"', "dns.metrics"),
        ('[proxy]\nlisten_tls = ["::1:443"]', "proxy.listen_tls"),
        ('[proxy]\nallowed_targets = ["10.0.0.1/8"]', "proxy.allowed_targets"),
        ('[gateway]\npublic_addresses = ["198.51.100.0/24"]', "gateway.public_addresses"),
        ('[gateway]\nreserved_names = ["wpad.gw1.example"]', "gateway.reserved_names"),
        ('[gateway]\nblocked_names = ["bank.example."]', "gateway.blocked_names"),
        ('[gateway]\nblocked_names = [""]', "gateway.blocked_names"),
        ('[fourtosix]\nmetrics = "1"', "fourtosix.metrics"),
        ('[fourtosix]\ninterface = "-v"', "fourtosix.interface"),
        ('[fourtosix]\ninterface = "wg-far-too-long0"', "fourtosix.interface"),
        ('[fourtosix]\ninterface = "wg/0"', "fourtosix.interface"),
        ('[fourtosix]\nprivate_key = "other"', "fourtosix.private_key"),
        ("[fourtosix]\nlisten_port = 0", "fourtosix.listen_port"),
        ("[redis]\ntimeout = 0", "redis.timeout"),
        ("[gateway]\ntcp_client_port = 65536", "gateway.tcp_client_port"),
        ("[reconciler]\nmax_removal_share = 1.5", "reconciler.max_removal_share"),
        ('[log]\nlevel = "loud"', "log.level"),
        ("dns = 5", "dns"),
        ("[dns", "gateway.toml"),
        ("a = " + "[" * 100_000, "gateway.toml"),
    ],
)
def test_a_wrong_value_is_a_config_error_that_names_the_key(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")) as caught:
        settings.parse(text.encode())
    assert str(caught.value).startswith("gateway.toml: ")


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_settings_or_a_config_error(raw: bytes) -> None:
    try:
        assert isinstance(settings.parse(raw), settings.Settings)
    except ConfigError as error:
        assert "gateway.toml" in str(error)


def test_a_file_is_found_by_option_then_by_environment(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text("[dns]\ncolour = 1")
    second.write_text("[dns]\nflavour = 2")
    environment = {"TFGATEWAY_CONFIG": str(second)}
    by_option = CliRunner().invoke(main, ["--config", str(first), "check-config"], env=environment)
    assert (by_option.exit_code, "colour" in by_option.output) == (2, True)
    by_environment = CliRunner().invoke(main, ["check-config"], env=environment)
    assert (by_environment.exit_code, "flavour" in by_environment.output) == (2, True)
    with pytest.raises(ConfigError, match=r"third\.toml: cannot be read: No such file"):
        settings.load(tmp_path / "third.toml")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        settings.Settings().dns.ttl = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "found"),
    [("0.0.0.0:53", ("0.0.0.0", 53)), ("[::]:53", ("::", 53)), ("[2001:db8::1]:0", ("2001:db8::1", 0))],
)
def test_addresses_to_listen_on(text: str, found: tuple[str, int]) -> None:
    assert host_port(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":53",
        "53",
        "0.0.0.0",
        "0.0.0.0:",
        "0.0.0.0:x",
        "0.0.0.0:65536",
        "0.0.0.0:-1",
        "::1:53",
        "[::1]",
        "[0.0.0.0]:53",
        "a:53",
        "0.0.0.0:٥",
    ],
)
def test_what_is_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(ValueError, match="is not ADDRESS:PORT"):
        host_port(text)


@pytest.mark.parametrize("endpoint", ["", "198.51.100.7:3443", "[2001:db8::1]:3443", "gw1.example:65535"])
def test_an_endpoint_is_a_host_and_a_port(endpoint: str) -> None:
    assert settings.parse(f'[fourtosix]\nendpoint = "{endpoint}"'.encode()).fourtosix.endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "gw1.example",
        "[2001:db8::zz]:3443",
        "[gw1.example]:3443",
        "2001:db8::1:3443",
        ":3443",
        "gw1.example:0",
        "gw1.example:65536",
        "a b:1",
        "[x]:1",
        "a:" + "9" * 5000,
    ],
)
def test_another_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"fourtosix\.endpoint"):
        settings.parse(f'[fourtosix]\nendpoint = "{endpoint}"'.encode())
