"""A user's WireGuard configuration, from what a gateway says."""

from __future__ import annotations

import configparser
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import CryptoError, ParseError
from tfgateway.explorer import wireguard

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PEER = {"public_key": KEY, "endpoint": "gw.example:3443", "allowed_ips": ["::/0"]}
DATA: dict[str, Any] = {"ips": ["fd00::1"], "peers": [PEER]}


def test_the_public_key_of_rfc_7748() -> None:
    alice = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
    assert wireguard.public_key(alice) == "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="


def test_new_keys_are_keys() -> None:
    keys = {wireguard.generate_private_key() for _ in range(5)}
    assert len({wireguard.public_key(key) for key in keys}) == 5


@pytest.mark.parametrize("text", ["", "x", KEY[:-4], KEY + "\n", KEY * 2])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(CryptoError):
        wireguard.public_key(text)


def test_a_configuration_for_wg_quick() -> None:
    tunnel = wireguard.parse_tunnel(json.dumps(DATA).encode())
    assert wireguard.wg_quick(tunnel, KEY) == (
        f"[Interface]\nPrivateKey = {KEY}\nAddress = fd00::1/128\nMTU = 1420\n\n"
        f"[Peer]\nPublicKey = {KEY}\nEndpoint = gw.example:3443\nAllowedIPs = ::/0\nPersistentKeepalive = 25\n"
    )
    assert "\nPrivateKey" not in wireguard.wg_quick(tunnel, None)


def _with_peer(**members: object) -> dict[str, Any]:
    return {**DATA, "peers": [{**PEER, **members}]}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {**DATA, "ips": []},
        {**DATA, "ips": ["192.0.2.1"]},
        {**DATA, "ips": ["fd00::1\nPostUp = evil"]},
        {**DATA, "ips": ["fd00::1%\nPostUp = evil"]},
        {**DATA, "peers": []},
        {**DATA, "peers": [{}]},
        _with_peer(public_key="AAAA"),
        _with_peer(public_key=KEY + "\n"),
        _with_peer(endpoint="gw.example:3443\nPostUp = evil"),
        _with_peer(endpoint="gw.example"),
        _with_peer(allowed_ips=[]),
        _with_peer(allowed_ips=["::/0\nPostUp = evil"]),
        _with_peer(allowed_ips=["fe80::%\nPostUp = evil/128"]),
    ],
)
def test_a_gateway_cannot_write_lines_of_its_own(data: object) -> None:
    with pytest.raises(ParseError):
        wireguard.parse_tunnel(json.dumps(data).encode())


TEXTS = st.text() | st.sampled_from(["fd00::1", "::/0", KEY, "h:1", "[::1]:1"])


@given(
    st.fixed_dictionaries(
        {
            "ips": st.lists(TEXTS, max_size=2),
            "peers": st.lists(
                st.fixed_dictionaries({"public_key": TEXTS, "endpoint": TEXTS, "allowed_ips": st.lists(TEXTS)}),
                max_size=2,
            ),
        }
    )
    | st.binary()
)
def test_any_answer_is_a_configuration_or_refused(data: object) -> None:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    try:
        text = wireguard.wg_quick(wireguard.parse_tunnel(raw), KEY)
    except ParseError:
        return
    parser = configparser.ConfigParser(strict=False)
    parser.read_string(text)
    assert set(parser["Interface"]) == {"privatekey", "address", "mtu"}
