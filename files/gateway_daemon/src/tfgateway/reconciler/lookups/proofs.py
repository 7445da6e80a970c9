"""Looks up what DNS says about domains that need a proof, through the resolver of this host."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from tfgateway.identity import proof_token
from tfgateway.net.addresses import IPAddress
from tfgateway.reconciler.lookups.cache import Lookups
from tfgateway.reconciler.planning.proofs import NameFacts

_MOST_RECORDS = 32
"""Records of one kind that are looked at."""
_LONGEST_TEXT = 512
"""Octets of a TXT record that are looked at."""
_QUERY_TIME = 2.0


class ProofResolver:
    """Asks a resolver for the records that may prove a claim.

    resolver: None: the one of this host.
    """

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        self._resolver = resolver

    async def facts(self, domain: str) -> NameFacts:
        """What DNS says. Errors: ``OSError``: it says nothing; ``DNSException``: it is no domain."""
        resolver = self._resolver or dns.asyncresolver.Resolver()  # /etc/resolv.conf may change
        name, where = dns.name.from_text(domain), proof_token.record_name(domain)
        a, aaaa, txt = await asyncio.gather(
            _answer(resolver, name, "A"),
            _answer(resolver, name, "AAAA"),
            _answer(resolver, dns.name.from_text(where), "TXT") if where else _nothing(),
        )
        if a is None and aaaa is None and txt is None:
            raise OSError("the resolver does not answer")
        addresses: set[IPAddress] = set()
        aliases: set[str] = set()
        for answer in (a, aaaa):
            for cname in answer.chaining_result.cnames if isinstance(answer, dns.resolver.Answer) else ():
                aliases.update(record.target.to_text(omit_final_dot=True).lower() for record in cname)
            addresses.update(ipaddress.ip_address(record.address) for record in list(answer or ())[:_MOST_RECORDS])
        texts = (b"".join(record.strings)[:_LONGEST_TEXT] for record in list(txt or ())[:_MOST_RECORDS])
        return NameFacts(
            frozenset(addresses), frozenset(aliases), proof_token.tokens(texts), None not in (a, aaaa, txt)
        )


async def _answer(resolver: dns.asyncresolver.Resolver, name: dns.name.Name, kind: str) -> Any:
    """The answer, empty (``()``) when the name or such records do not exist; None: that is not known."""
    try:
        return await resolver.resolve(name, kind, search=False, lifetime=_QUERY_TIME, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        return ()
    except (dns.exception.DNSException, OSError):
        return None


async def _nothing() -> Any:
    return ()


def name_lookups(records: ProofResolver) -> Lookups[NameFacts]:
    """A cache of ``NameFacts``, filled by ``records``."""
    return Lookups("proof not looked up", records.facts, NameFacts())
