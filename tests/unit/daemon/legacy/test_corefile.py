"""The old DNS server's Corefile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ConfigError
from tfgateway.legacy.corefile import Corefile, parse

PRODUCTION = """\
. {
    log
    errors
    redis {
        address 127.0.0.1:6379  # the gateway's own
    }
    forward . 174.138.6.79 8.8.8.8 1.1.1.1
}
"""


def test_i10_the_file_of_the_production_nodes() -> None:
    assert parse(PRODUCTION) == Corefile(address="127.0.0.1:6379", forwards=True)


def test_every_option() -> None:
    text = """
    # first another server
    example.org:5353 {
        whoami
    }
    .:1053 example.net {
        redis ignored arguments {
            address "redis.example:6380"
            password secret
            prefix "_dns:"
            suffix :x
            connect_timeout 100
            ttl 60
        }
    }
    """
    assert parse(text) == Corefile(address="redis.example:6380", ttl=60, prefix="_dns:", suffix=":x", port=1053)


@pytest.mark.parametrize(("ttl", "read"), [("60", 60), ("-1", 360), ("much", 360), ("", 360)])
def test_a_ttl_that_is_no_number_is_360(ttl: str, read: int) -> None:
    assert parse(f". {{\nredis {{\nttl {ttl}\n}}\n}}\n").ttl == read


@pytest.mark.parametrize("text", ["", "# nothing\n", ". {\n  log\n}\n", ".\nredis {\n}\n", ". {"])
def test_without_the_plugin_there_is_nothing_to_compare(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_the_printed_text_that_lost_its_first_dot_is_read_all_the_same() -> None:
    assert parse("{\n    redis {\n        address 127.0.0.1:6379\n    }\n}\n") == Corefile(address="127.0.0.1:6379")


@given(st.text(alphabet='.{}#"\\ \nredisttl0', max_size=80))
def test_any_text_gives_a_corefile_or_an_error(text: str) -> None:
    try:
        assert isinstance(parse(text), Corefile)
    except ConfigError as error:
        assert str(error).isprintable()
