"""``tunnel.toml``: what it may hold, and what an error says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tfgateway.errors import ConfigError
from tfgateway.tunnel.client.config import ClientSettings, TlsSettings, TunnelSettings, load

README = Path(__file__).resolve().parents[4] / "files" / "tunnel" / "README.md"
WHOLE = """
gateways = ["gw1.example:18000", "[2001:db8::1]:18000"]
backoff = 2.5
metrics = "127.0.0.1:9160"

[[tunnels]]
name = "home"
secret_file = "home.secret"
local = "127.0.0.1:8080"
local_tls = "[::1]:8443"
proxy_protocol = "v2"
max_visitors = 50

[[tunnels]]
name = "blog"
secret_file = "blog.secret"
local = "127.0.0.1:8081"
gateways = ["gw3.example:18001"]
"""
ONE = '[[tunnels]]\nname = "one"\nsecret_file = "home.secret"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "home.secret").write_text("7:home\n")
    (tmp_path / "blog.secret").write_text("7:blog")
    return tmp_path / "tunnel.toml"


def test_a_whole_file(path: Path) -> None:
    path.write_text(WHOLE)
    config = load(path)
    assert config.metrics == "127.0.0.1:9160"
    assert [file.name for file in config.files] == ["tunnel.toml", "home.secret", "blog.secret"]
    assert [(one.name, one.remote) for one in config.tunnels] == [
        ("home", ("gw1.example", 18000)),
        ("home", ("2001:db8::1", 18000)),
        ("blog", ("gw3.example", 18001)),
    ]
    home, _, blog = (one.options for one in config.tunnels)
    assert (home.secret, home.local, home.local_tls) == (b"7:home", ("127.0.0.1", 8080), ("::1", 8443))
    assert (home.proxy_protocol, home.max_visitors, home.backoff, home.tls) == (2, 50, 2.5, None)
    assert (blog.secret, blog.local_tls, blog.proxy_protocol) == (b"7:blog", ("127.0.0.1", 8081), None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "missing required field `tunnels`"),
        ("tunnels = []", "length >= 1"),
        ("nonsense", "Expected '='"),
        (ONE, "one has no gateway"),
        ('gateways = ["gw.example:1"]\n' + ONE, "one has no service"),
        (
            'gateways = ["gw.example"]\n' + ONE + 'local = "127.0.0.1:1"',
            "gateways of one: 'gw.example' is not HOST:PORT",
        ),
        ('gateways = ["gw.example:1"]\n' + ONE + 'local = "1"', "local of one: '1' is not HOST:PORT"),
        ('gateways = ["gw.example:1"]\n' + ONE + 'local = "[::1]:1"\nproxy_protocol = "v3"', "Invalid enum value 'v3'"),
        ('gateways = ["gw.example:1"]\n' + ONE + 'localhost = "[::1]:1"', "unknown field `localhost`"),
        ('gateways = ["gw.example:1"]\nmetrics = "x"\n' + ONE + 'local = "[::1]:1"', "metrics: "),
        ('gateways = ["gw.example:1", "gw.example:1"]\n' + ONE + 'local = "[::1]:1"', "one has a gateway twice"),
        (
            'gateways = ["gw.example:1"]\n' + ONE + 'local = "[::1]:1"\n' + ONE + 'local = "[::1]:2"',
            "two with this name",
        ),
        (
            'gateways = ["gw.example:1"]\n'
            + 2 * (ONE + 'local = "[::1]:1"\n').replace("one", "a", 1).replace("one", "b"),
            "with this name",
        ),
        (
            'gateways = ["gw.example:1"]\n'
            + ONE
            + 'local = "[::1]:1"\n'
            + ONE.replace('"one"', '"two"')
            + 'local = "[::1]:2"',
            "one and two have the same secret",
        ),
        (
            'gateways = ["gw.example:1"]\n' + ONE.replace("home", "no") + 'local = "[::1]:1"',
            "secret_file of one: .*No such file",
        ),
        ('gateways = ["gw.example:1"]\n[tls]\nca = "none.pem"\n' + ONE + 'local = "[::1]:1"', "tls.ca: .*none.pem"),
    ],
)
def test_what_is_wrong_is_named(path: Path, text: str, error: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=error) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "7:home" not in str(caught.value)


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tunnel\.toml: cannot be read: No such file"):
        load(path)


def test_an_empty_secret(path: Path) -> None:
    path.with_name("home.secret").write_text("\n")
    path.write_text('gateways = ["gw.example:1"]\n' + ONE + 'local = "[::1]:1"')
    with pytest.raises(ConfigError, match="the secret has 0 bytes"):
        load(path)


def test_the_readme_names_every_key() -> None:
    text = README.read_text()
    keys = {name for section in (ClientSettings, TunnelSettings) for name in section.__struct_fields__}
    keys |= {f"tls.{name}" for name in TlsSettings.__struct_fields__}
    assert set(re.findall(r"^\| `([a-z_.]+)` \| `tunnel.toml`", text, re.MULTILINE)) | {"tunnels", "tls"} == keys


def test_the_example_in_the_readme_can_be_loaded(path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    path.write_text(example)
    assert {one.name for one in load(path).tunnels} == {"home", "blog"}
