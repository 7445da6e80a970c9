"""Verifies by DNS that a gateway serves the domains that it says it manages."""

from __future__ import annotations

from collections.abc import Iterable

import dns.asyncresolver
import dns.exception

from tfgateway import gojson
from tfgateway.explorer.server.api.http import ApiError
from tfgateway.net.addresses import host_port

_LIFETIME = 5.0


async def check(resolver: str, domains: Iterable[str], node_id: str) -> None:
    """Look up ``__owner__`` of each domain at ``resolver`` (``ADDRESS:PORT``): one TXT record must name the gateway.

    Errors: ``ApiError`` 403 that names the domain.
    """
    asking = dns.asyncresolver.Resolver(configure=False)
    address, asking.port = host_port(resolver)
    asking.nameservers = [address]
    for domain in domains:
        try:
            records = await asking.resolve(f"__owner__.{domain}.", "TXT", lifetime=_LIFETIME)
        except dns.exception.DNSException as error:
            raise ApiError(403, f"cannot look up the owner of domain {domain}: {error}") from error
        if not any(_names(b"".join(record.strings), node_id) for record in records):
            raise ApiError(403, f"domain {domain} is not owned by gateway {node_id}")


def _names(text: bytes, node_id: str) -> bool:
    try:
        members = gojson.decode_object(text)
    except ValueError:  # a TXT record of another use
        return False
    return members.get("identity") == node_id and members.get("owner") == node_id
