"""Which domains are delegated to this gateway by their parent zones: looked up in DNS beside the passes, and cached.

A pass of the running reconciler never waits for an untrusted name server: it plans with what is known by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NamedTuple

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from tfgateway.addresses import denied_reason
from tfgateway.telemetry.logs import logger
from tfgateway.telemetry.text import printable

_log = logger("reconciler")

_MAX_AGE = 300.0
"""Seconds: longer than passes are apart, so that the next one still knows what was looked up for it."""
_LOOKUP_TIME = 5.0
"""Seconds for one domain; without an answer by then it is not delegated here, as far as is known."""
_SERVER_TIME = 2.0
_AT_ONCE = 8
_MOST_QUESTIONS = 100
"""Domains that are looked up for one pass."""
_MOST_KNOWN = 10_000
_MOST_SERVERS = 4
"""Addresses of a parent zone's name servers that are asked, one after the other."""


class _Fact(NamedTuple):
    delegated: bool
    since: float


class Delegations:
    """What parent zones say, by domain.

    name_servers: host names of this gateway, any case, with or without a final dot.
    lookup: a domain to the host names of its NS records in the parent zone, lower case, without a final dot. Whatever
    its error is, the domain is not delegated here, as far as is known.
    """

    def __init__(
        self,
        name_servers: Iterable[str],
        lookup: Callable[[str], Awaitable[frozenset[str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = frozenset(name.lower().removesuffix(".") for name in name_servers)
        self._lookup = lookup
        self._clock = clock
        self._facts: dict[str, _Fact] = {}
        """The oldest first."""
        self._wanted: dict[str, None] = {}
        self._news = asyncio.Event()

    def known(self) -> dict[str, bool]:
        """Domain -> whether its parent zone names this gateway, of what was looked up within the last minutes."""
        oldest = self._clock() - _MAX_AGE
        self._facts = {domain: fact for domain, fact in self._facts.items() if fact.since > oldest}
        return {domain: fact.delegated for domain, fact in self._facts.items()}

    def ask(self, domains: Iterable[str]) -> None:
        """Have ``run`` look up these domains; beyond a bound they wait for the next pass that needs them."""
        for domain in domains:
            if len(self._wanted) < _MOST_QUESTIONS:
                self._wanted[domain] = None
                self._news.set()

    async def run(self) -> None:
        """Look up what was asked for, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            wanted, self._wanted = self._wanted, {}
            known = self.known()  # passes have asked again in the meantime
            await self.look_up([domain for domain in wanted if domain not in known])

    async def look_up(self, domains: Collection[str]) -> None:
        """Look up domains now, the first of them when they are many: it takes about a minute at most."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(domain: str) -> None:
            async with limit:
                delegated = await self._is_delegated(domain)
            self._facts.pop(domain, None)
            self._facts[domain] = _Fact(delegated, self._clock())

        await asyncio.gather(*map(one, list(domains)[:_MOST_QUESTIONS]))
        for domain in list(self._facts)[: max(0, len(self._facts) - _MOST_KNOWN)]:
            del self._facts[domain]

    async def _is_delegated(self, domain: str) -> bool:
        if not self._own:
            return False
        try:
            async with asyncio.timeout(_LOOKUP_TIME):
                return not self._own.isdisjoint(await self._lookup(domain))
        except Exception as error:  # what an untrusted name server says must not end the reconciler
            reason = printable(str(error)) or type(error).__name__
            _log.warning("delegation not looked up", domain=printable(domain), reason=reason)
            return False


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
