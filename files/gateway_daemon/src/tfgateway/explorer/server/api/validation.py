"""Validates new workloads by the rules of the gateway that would refuse them. Pure."""

from __future__ import annotations

import binascii
import ipaddress
from collections.abc import Collection

from tfgateway.addresses import IPAddress
from tfgateway.explorer.models import DomainDelegate, Gateway4To6, Proxy, ReverseProxy, Subdomain, Workload
from tfgateway.explorer.servable import (
    addresses_refusal,
    canonical_domain,
    domain_refusal,
    key_refusal,
    target_refusal,
)

_SHORTEST_SECRET = 41  # nonce and tag take 40 bytes; less than a nonce ends old gateways (P-1)
_OPENED = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
"""Which private networks a gateway opens for its tenants, only the gateway knows."""


def workload_problem(workload: Workload, max_addresses: int, own: Collection[IPAddress] = ()) -> str | None:
    """Why no gateway can serve this workload; None when one can. own: addresses of the gateway itself."""
    if isinstance(workload, Gateway4To6):
        return key_refusal(workload.public_key)
    if not isinstance(workload, DomainDelegate | Subdomain | Proxy | ReverseProxy):
        return f"a gateway cannot serve workloads of type {workload.type_name}"
    domain = canonical_domain(workload.domain)
    if problem := domain_refusal(domain):
        return problem
    if isinstance(workload, Subdomain):
        if len(workload.ips) > max_addresses:
            return f"quota exceeded: a subdomain may have {max_addresses} addresses"
        return addresses_refusal(domain, workload.ips)
    if isinstance(workload, Proxy):
        return target_refusal(domain, workload.addr, workload.port, workload.port_tls, _OPENED, own)
    return _secret_problem(workload.secret) if isinstance(workload, ReverseProxy) else None


def _secret_problem(secret: str) -> str | None:
    try:
        size = len(binascii.unhexlify(secret))
    except ValueError:
        return "failed to decrypt secret: it is not hex"
    return None if size >= _SHORTEST_SECRET else f"secret is shorter than {_SHORTEST_SECRET} bytes"
