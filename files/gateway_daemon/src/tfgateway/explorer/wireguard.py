"""A user's end of a 4to6 tunnel: its keys, and the configuration that follows from a gateway's answer. No I/O."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import secrets

import msgspec
import nacl.bindings

from tfgateway import gojson
from tfgateway.errors import CryptoError, ParseError

KEY_SIZE = 32
_MTU = 1420
_KEEPALIVE = 25
_ENDPOINT = re.compile(r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")


def generate_private_key() -> str:
    """A new private key (base64), as ``wg genkey`` makes them."""
    key = bytearray(secrets.token_bytes(KEY_SIZE))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return base64.b64encode(key).decode()


def public_key(private_key: str) -> str:
    """The public key (base64) of a private one as ``wg genkey`` prints it. Errors: ``CryptoError``."""
    return base64.b64encode(nacl.bindings.crypto_scalarmult_base(_key(private_key))).decode()


class GatewayPeer(msgspec.Struct, frozen=True):
    """The gateway as a WireGuard peer."""

    public_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]


class Tunnel(msgspec.Struct, frozen=True):
    """What a gateway answers to a gateway4to6 workload: addresses and peers for the user."""

    ips: tuple[str, ...]
    peers: tuple[GatewayPeer, ...]


def parse_tunnel(data: bytes) -> Tunnel:
    """The tunnel in a result's ``data_json``. Errors: ``ParseError``.

    The data are the gateway's and become lines of a file that root runs: everything has to be what it claims to be.
    """
    try:
        tunnel = msgspec.convert(gojson.decode(data), type=Tunnel)
        if not tunnel.ips or not tunnel.peers:
            raise ParseError("it names no address or no peer")
        for ip in tunnel.ips:
            ipaddress.IPv6Address(_plain(ip))
        for peer in tunnel.peers:
            _check(peer)
    except (ValueError, CryptoError) as error:
        raise ParseError(f"the result holds no tunnel: {error}") from error
    return tunnel


def wg_quick(tunnel: Tunnel, private_key: str | None) -> str:
    """A configuration for ``wg-quick``; without a key its owner has to fill it in."""
    own = f"PrivateKey = {private_key}" if private_key else "# PrivateKey = "
    addresses = (f"{ip}/128" for ip in tunnel.ips)
    lines = ["[Interface]", own, f"Address = {', '.join(addresses)}", f"MTU = {_MTU}"]
    for peer in tunnel.peers:
        lines += [
            "",
            "[Peer]",
            f"PublicKey = {peer.public_key}",
            f"Endpoint = {peer.endpoint}",
            f"AllowedIPs = {', '.join(peer.allowed_ips)}",
            f"PersistentKeepalive = {_KEEPALIVE}",
        ]
    return "\n".join([*lines, ""])


def _check(peer: GatewayPeer) -> None:
    _key(peer.public_key)
    if not _ENDPOINT.fullmatch(peer.endpoint):
        raise ParseError("a peer's endpoint is not HOST:PORT")
    if not peer.allowed_ips:
        raise ParseError("a peer has no allowed_ips")
    for network in peer.allowed_ips:
        ipaddress.ip_network(_plain(network))


def _plain(text: str) -> str:
    """An address without a zone, for which Python takes any text, line feeds included."""
    if "%" in text:
        raise ParseError("an address has a zone")
    return text


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_SIZE:
        raise CryptoError(f"a WireGuard key must be {KEY_SIZE} bytes in base64")
    return key
