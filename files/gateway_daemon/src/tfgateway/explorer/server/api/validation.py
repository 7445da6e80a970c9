"""Validates new workloads by the rules of the gateway that would refuse them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from tfgateway.explorer.models import DomainDelegate, Gateway4To6, Proxy, ReverseProxy, Subdomain, Workload
from tfgateway.explorer.servable import (
    addresses_refusal,
    canonical_domain,
    domain_refusal,
    key_refusal,
    managed_refusal,
    secret_refusal,
    target_refusal,
)
from tfgateway.net.addresses import IPAddress

_OPENED = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
"""Which private networks a gateway opens for its tenants, only the gateway knows."""


def workload_problem(
    workload: Workload, max_addresses: int, own: Collection[IPAddress] = (), managed: Collection[str] = ()
) -> str | None:
    """Why the gateway cannot serve this workload, whatever else is reserved there; None when it can.

    own, managed: addresses and managed domains of the gateway, as it has registered.
    """
    if isinstance(workload, Gateway4To6):
        return key_refusal(workload.public_key)
    if not isinstance(workload, DomainDelegate | Subdomain | Proxy | ReverseProxy):
        return f"type of reservation not supported: {workload.type_name}"
    if isinstance(workload, Subdomain) and len(workload.ips) > max_addresses:
        return f"quota exceeded: a subdomain may have {max_addresses} addresses"
    domain = canonical_domain(workload.domain)
    if isinstance(workload, ReverseProxy) and not domain:
        return "domain cannot be empty"
    return (
        domain_refusal(domain)
        or _content_problem(workload, domain, own)
        or managed_refusal(workload.type_name, domain, frozenset(map(str.lower, managed)))
    )


def _content_problem(workload: Workload, domain: str, own: Collection[IPAddress]) -> str | None:
    if isinstance(workload, Subdomain):
        return addresses_refusal(domain, workload.ips)
    if isinstance(workload, Proxy):
        return target_refusal(domain, workload.addr, workload.port, workload.port_tls, _OPENED, own)
    return secret_refusal(workload.secret) if isinstance(workload, ReverseProxy) else None
