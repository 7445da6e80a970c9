"""Whether this node's name server answers for all managed domains: what an anycast health check asks."""

from __future__ import annotations

import asyncio

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode

from tfgateway.net.addresses import host_port
from tfgateway.settings import Settings

_PATIENCE = 1.0
"""Seconds for one answer."""
_TRIES = 2
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not listened at


async def not_serving(settings: Settings) -> list[str]:
    """What is not answered with authority over UDP, at each address that is listened at, one line each.

    Empty: all is answered.
    """
    domains = [domain.lower() for domain in settings.gateway.managed_domains]
    asked = [(host_port(listen), domain) for listen in settings.dns.listen for domain in domains]
    answers = await asyncio.gather(*(_asked(host, port, domain) for (host, port), domain in asked))
    found = [
        f"{domain} at {host} port {port}: {why}"
        for ((host, port), domain), why in zip(asked, answers, strict=True)
        if why
    ]
    return found if asked else ["no managed domain, or no address that is listened at"]


async def _asked(host: str, port: int, domain: str) -> str:
    """Why the SOA record of this zone is not answered; empty: it is."""
    query = dns.message.make_query(domain, "SOA")
    why = ""
    for _ in range(_TRIES):
        try:
            answer = await dns.asyncquery.udp(query, _ANY.get(host, host), timeout=_PATIENCE, port=port)
        except (dns.exception.DNSException, OSError) as error:
            why = str(error) or type(error).__name__
            continue
        if answer.rcode() != dns.rcode.NOERROR or not answer.flags & dns.flags.AA or not answer.answer:
            return f"answered {dns.rcode.to_text(answer.rcode())}"
        return ""
    return why
