"""The old daemon's command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.legacy.flags import Flags, parse

PRODUCTION = (
    "--seed /etc/identity.seed --nameservers tf-gateway-prod-01.gateway.tf --endpoint 198.51.100.7:3443"
    " --domains tfgw-prod-01.gateway.tf --domains tfgw-prod-01.3x0.me --domains tfgw-prod-01.ava.tf"
    " --domains tfgw-prod-01.base.tf --farm 1"
)


def test_the_unit_of_the_production_nodes() -> None:
    flags, problems = parse(PRODUCTION.split())
    assert problems == ()
    assert flags == Flags(
        seed="/etc/identity.seed",
        farm=1,
        nameservers=("tf-gateway-prod-01.gateway.tf",),
        domains=("tfgw-prod-01.gateway.tf", "tfgw-prod-01.3x0.me", "tfgw-prod-01.ava.tf", "tfgw-prod-01.base.tf"),
        endpoint="198.51.100.7:3443",
    )


def test_an_own_deployment_with_the_other_spellings() -> None:
    flags, problems = parse(
        [
            "-explorer=https://explorer.example/api/v1",
            "--redis=unix:///run/r.sock",
            "--free",
            "--tcp-client-port=1",
            "--debug",
        ]
    )
    assert problems == ()
    assert flags == Flags(
        explorer="https://explorer.example/api/v1", redis="unix:///run/r.sock", free=True, tcp_client_port=1
    )


@pytest.mark.parametrize(("word", "free"), [("--free=false", False), ("--free=T", True), ("--free=1", True)])
def test_a_switch_with_a_value(word: str, free: bool) -> None:
    assert parse([word])[0].free is free


def test_what_is_not_understood_is_said_and_the_rest_is_read() -> None:
    flags, problems = parse(["stray", "--unknown", "value", "--farm", "one\x1b[2J", "--seed", "/s"])
    assert flags == Flags(seed="/s")
    assert problems == (
        "'stray' is no flag",
        "--farm 'one\\x1b[2J' is no number",
        "--unknown is not known",
    )


def test_the_last_one_wins_and_a_value_may_be_missing() -> None:
    flags, problems = parse(["--seed", "a", "--seed", "b", "--endpoint"])
    assert (flags.seed, flags.endpoint, problems) == ("b", "", ())


@given(st.lists(st.text()))
def test_any_words_give_flags(words: list[str]) -> None:
    flags, problems = parse(words)
    assert isinstance(flags, Flags)
    assert all(problem.isprintable() for problem in problems)
