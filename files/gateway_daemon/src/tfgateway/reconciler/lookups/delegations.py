"""Which domains are delegated to this gateway by their parent zones."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from tfgateway.net.addresses import denied_reason
from tfgateway.reconciler.lookups.cache import Lookups

_SERVER_TIME = 2.0
_MOST_SERVERS = 4
"""Addresses of a parent zone's name servers that are asked, one after the other."""


class Delegations(Lookups[bool | None]):
    """Whether parent zones name this gateway, by domain; None: that could not be looked up."""

    def __init__(
        self,
        name_servers: Iterable[str],
        lookup: Callable[[str], Awaitable[frozenset[str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """name_servers: host names of this gateway, any case, with or without a final dot; without any nobody is asked.

        lookup: a domain to the host names of its NS records in the parent zone, lower case, without a final dot.
        """
        own = frozenset(name.lower().removesuffix(".") for name in name_servers)

        async def is_delegated(domain: str) -> bool:
            return bool(own) and not own.isdisjoint(await lookup(domain))

        super().__init__("delegation not looked up", is_delegated, None, clock=clock)


def _is_public(address: str) -> bool:
    """Whether an untrusted name server may be asked at an address: none inside this node's networks."""
    return denied_reason(address, (), ()) is None


class ParentZones:
    """Asks a parent zone itself, over TCP: the domain's own servers may not know it yet, and nobody can forge that.

    resolver: finds the parent zone's name servers; None: the one of this host.
    """

    def __init__(
        self,
        resolver: dns.asyncresolver.Resolver | None = None,
        port: int = 53,
        may_ask: Callable[[str], bool] = _is_public,
    ) -> None:
        self._resolver = resolver
        self._port = port
        self._may_ask = may_ask

    async def name_servers(self, domain: str) -> frozenset[str]:
        """Host names in a domain's NS records in its parent zone, lower case; empty: there are none.

        Errors: ``DNSException``, ``OSError``.
        """
        resolver = self._resolver or dns.asyncresolver.Resolver()  # /etc/resolv.conf may change
        name = dns.name.from_text(domain)
        zone = await dns.asyncresolver.zone_for_name(name.parent(), resolver=resolver)
        query = dns.message.make_query(name, dns.rdatatype.NS, flags=dns.flags.Flag(0))
        problem = f"no name server of {zone} answers"
        for address in await self._servers_of(zone, resolver):
            try:
                reply = await dns.asyncquery.tcp(query, address, timeout=_SERVER_TIME, port=self._port)
            except (dns.exception.DNSException, OSError, EOFError) as error:
                problem = f"{address}: {error}"
                continue
            if reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return _targets(reply, name)
            problem = f"{address}: {dns.rcode.to_text(reply.rcode())}"
        raise OSError(problem)

    async def _servers_of(self, zone: dns.name.Name, resolver: dns.asyncresolver.Resolver) -> list[str]:
        found: list[str] = []
        for server in list(await resolver.resolve(zone, "NS"))[:_MOST_SERVERS]:
            for kind in ("A", "AAAA"):
                answer = await resolver.resolve(server.target, kind, raise_on_no_answer=False)
                found += [record.address for record in answer if self._may_ask(record.address)]
            if len(found) >= _MOST_SERVERS:
                break
        return found[:_MOST_SERVERS]


def _targets(reply: dns.message.Message, name: dns.name.Name) -> frozenset[str]:
    """NS records of exactly this name: as a referral, or where the parent's server has the domain too."""
    return frozenset(
        record.target.to_text(omit_final_dot=True).lower()
        for rrset in (*reply.answer, *reply.authority)
        if rrset.rdtype == dns.rdatatype.NS and rrset.name == name
        for record in rrset
    )
