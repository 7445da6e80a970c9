"""What no gateway serves, whatever else is reserved there: a refusal's text for each type of reservation. Pure.

The reconciler refuses by this, and an explorer of ours at once, in the same words.
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Collection, Sequence

from tfgateway.errors import ParseError, SchemaError
from tfgateway.identity.sealing import ECDH_OVERHEAD
from tfgateway.net.addresses import IPAddress, IPNetwork, denied_reason, is_literal
from tfgateway.net.idn import to_ascii
from tfgateway.wireguard_key import decode_key

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
_LONGEST = 253  # RFC 1035 §2.3.4, as text without the final dot
_HIGHEST_PORT = 65535
_SHOWN = 255
LONGEST_SECRET = 4096
"""Bytes of a tunnel's secret: whatever they are, the entry of the proxy's table stays one that its readers take."""


def canonical_domain(text: str) -> str:
    """A domain as it is served: lower case (P-20), internationalised labels as A-labels; what is none, in lower case.

    The very object when it is that already: a name is kept in many places, and should be in memory once.
    """
    lower = text.lower()
    if len(text) <= _LONGEST:
        with contextlib.suppress(ParseError):
            lower = to_ascii(text).lower()
    return text if lower == text else lower


def is_domain(domain: str) -> bool:
    """Whether a domain is valid: two labels, no final dot, ``_`` but no ``*``, no IP address."""
    labels = domain.split(".")
    if len(domain) > _LONGEST or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        return False
    return not is_literal(domain)


def domain_refusal(domain: str) -> str | None:
    """Why nothing can be served under a name; ``CATCH_ALL`` is none either (T-9)."""
    return None if is_domain(domain) else f"domain '{domain[:_SHOWN]}' name is invalid"


def addresses_refusal(domain: str, addresses: Sequence[object]) -> str | None:
    """Why a subdomain cannot have these addresses."""
    for text in addresses:
        if not isinstance(text, str) or "%" in text or not is_literal(text):
            return f"incorrect format for domain {domain}: '{text}' is not an IP address"
    return None if addresses else f"incorrect format for domain {domain}: it has no address"


def target_refusal(
    domain: str, addr: str, port: int, port_tls: int, allowed: Collection[IPNetwork], own: Collection[IPAddress]
) -> str | None:
    """Why a proxy cannot have this target (T-1, T-15); ``allowed``, ``own``: see ``denied_reason``."""
    cannot = f"cannot add proxy from {domain}:"
    if (reason := denied_reason(addr, allowed, own)) is not None:
        return f"{cannot} target '{addr}' is {reason}"
    for one in (port, port_tls):
        if not 0 <= one <= _HIGHEST_PORT:
            return f"{cannot} port {one} is not between 1 and {_HIGHEST_PORT}"
    return None if port or port_tls else f"{cannot} neither port nor port_tls is set"


def secret_refusal(secret: str) -> str | None:
    """Why a tunnel cannot have this secret, which only the gateway can decrypt. Hex of ``sealing.encrypt_ecdh``."""
    if not secret:
        return "secret cannot be empty"
    try:
        size = len(binascii.unhexlify(secret)) - ECDH_OVERHEAD
    except ValueError:
        return "failed to decrypt secret: it is not hex"
    if size < 0:  # less than a nonce ends old gateways (P-1)
        needs = f"ciphertext has {size + ECDH_OVERHEAD} bytes and needs at least {ECDH_OVERHEAD}"
        return f"failed to decrypt secret: decryption error: {needs}"
    if size == 0:
        return "secret cannot be empty"
    return f"secret is longer than {LONGEST_SECRET} bytes" if size > LONGEST_SECRET else None


def managed_refusal(type_name: str, domain: str, managed: Collection[str]) -> str | None:
    """Why nobody but the gateway can have a name for the sake of its managed domains (lower case)."""
    if type_name == "domain_delegate":
        for zone in managed:
            if (where := relation(domain, zone)) is not None:
                return f"unauthorized error cannot delegate domain {domain}: managed domain {zone} {where}"
    elif domain in managed:
        if type_name == "subdomain":
            return f"cannot add subdomain @ to zone {domain}: unauthorized error"
        return f"cannot add {type_name.replace('_', ' ')} from {domain}: unauthorized error: it is a managed domain"
    return None


def relation(domain: str, other: str) -> str | None:
    """How another name stands to a domain, in words; None: neither has the other in it."""
    if domain == other:
        return "has this name"
    if domain.endswith(f".{other}"):
        return "is above it"
    return "is below it" if other.endswith(f".{domain}") else None


def key_refusal(public_key: str) -> str | None:
    """Why a 4to6 peer cannot have this key."""
    try:
        decode_key(public_key)
    except SchemaError as error:
        return f"cannot add 4to6 peer: public_key is {error}"
    return None
