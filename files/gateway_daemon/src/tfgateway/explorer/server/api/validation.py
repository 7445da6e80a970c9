"""Validates new workloads by the rules of the gateway that would refuse them. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re

from tfgateway.explorer.models import DomainDelegate, Gateway4To6, Proxy, ReverseProxy, Subdomain, Workload

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
_LONGEST_DOMAIN = 255
_LAST_PORT = 65535
_SHORTEST_SECRET = 41  # nonce and tag take 40 bytes; less than a nonce ends old gateways (P-1)
_WIREGUARD_KEY = 32


def workload_problem(workload: Workload, max_addresses: int) -> str | None:
    """Why no gateway can serve this workload; None when one can."""
    match workload:
        case DomainDelegate():
            return domain_problem(workload.domain)
        case Subdomain():
            return domain_problem(workload.domain) or _addresses_problem(workload.ips, max_addresses)
        case Proxy():
            return domain_problem(workload.domain) or _target_problem(workload)
        case ReverseProxy():
            return domain_problem(workload.domain) or _secret_problem(workload.secret)
        case Gateway4To6():
            return _key_problem(workload.public_key)
        case _:
            return f"a gateway cannot serve workloads of type {workload.type_name}"


def domain_problem(domain: str) -> str | None:
    """Why a gateway would not take this name; None when it would."""
    labels = domain.split(".")
    if len(domain) - len(labels) + 1 > _LONGEST_DOMAIN or len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)):
        return f"domain '{domain[:_LONGEST_DOMAIN]}' name is invalid"
    return f"domain '{domain}' is an address" if _is_address(domain) else None


def _addresses_problem(addresses: tuple[str, ...], most: int) -> str | None:
    if not 1 <= len(addresses) <= most:
        return f"ips needs 1 to {most} addresses"
    wrong = [address for address in addresses if not _is_address(address)]
    return f"'{wrong[0]}' is not an IP address" if wrong else None


def _target_problem(proxy: Proxy) -> str | None:
    if not _is_address(proxy.addr):  # old gateways dial themselves then (T-1)
        return f"addr '{proxy.addr}' is not an IP address"
    if max(proxy.port, proxy.port_tls) > _LAST_PORT or not (proxy.port or proxy.port_tls):
        return f"port and port_tls need a number up to {_LAST_PORT}, one of them may be 0"
    return None


def _secret_problem(secret: str) -> str | None:
    try:
        size = len(binascii.unhexlify(secret))
    except ValueError:
        return "secret is not hex"
    return None if size >= _SHORTEST_SECRET else f"secret is shorter than {_SHORTEST_SECRET} bytes"


def _key_problem(key: str) -> str | None:
    try:
        size = len(base64.b64decode(key, validate=True))
    except ValueError:
        return "public_key is not base64"
    return None if size == _WIREGUARD_KEY else f"public_key must be {_WIREGUARD_KEY} bytes"


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == 4 or "%" not in text
