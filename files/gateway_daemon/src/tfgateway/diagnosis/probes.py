"""Asks the planes of this node as a visitor would: a real query, a real connection; the kernel for its peers.

Whose fault it is that the proxy does not serve: where nothing listens, the plane's. Else the target is visited without
the proxy, as far as the proxy may reach it; what does not answer then either is the target's fault. That holds for both
ports: on the TLS port the end of a connection does not say which side ended it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from tfgateway import gojson
from tfgateway.errors import ProgramError
from tfgateway.net.addresses import denied_reason, host_port, shown
from tfgateway.programs import run
from tfgateway.reconciler.planning.claims import Policy
from tfgateway.reconciler.verdict import ProbeResult
from tfgateway.redis_schema.keys import OWNER_FIELD
from tfgateway.redis_schema.services import Service
from tfgateway.settings import Settings

_QUERY_TIME = 2.0
_TRIES = 2  # a UDP datagram may be lost
_MOST_SILENCE = 16
_VISIT_TIME = 10.0
_USUAL_TIME = 1.0
"""Seconds after which a visit that is not over yet is compared with one that goes to the target itself."""
_AT_ONCE = 32
_HEAD = 16 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_OWN_ANSWER = b"\r\nproxy-status: tfgateway"
"""The proxy marks what it says itself (RFC 9209): then no target was reached."""
_FORBIDDEN = ("Permission denied", "Operation not permitted")
_4TO6 = "4to6"
_OWN_ALERTS = ("UNRECOGNIZED_NAME", "DECODE_ERROR")


_Address = tuple[str, int]
_Visit = Callable[[str, str, int], Coroutine[Any, Any, bool]]


class Prober:
    """Each question has an answer, never an error; None: nothing is to be asked. A bounded number is asked at once."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self._policy = policy
        self._dns = _first(settings.dns.listen)
        self._http = _first(settings.proxy.listen_http)
        self._tls = _first(settings.proxy.listen_tls)
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._silence = 0
        self._interface = settings.fourtosix.interface
        self._peers: asyncio.Task[dict[str, str] | None] | None = None
        self._listening: dict[_Address, asyncio.Task[bool]] = {}
        self._down: dict[str, str] = {}

    def problems(self) -> list[str]:
        """Planes that were asked and do not run, one line each."""
        return [f"{plane} does not run: {why}" for plane, why in self._down.items()]

    async def addresses(self, name: str, expected: Collection[str]) -> ProbeResult | None:
        """Whether DNS gives exactly these addresses."""
        if self._dns is None:
            return None
        if not await self._runs("DNS", self._dns):
            return ProbeResult.NO_PLANE
        async with self._limit:
            found = await asyncio.gather(*(self._query(self._dns, name, kind) for kind in ("A", "AAAA")))
        return _right(sorted(found[0] + found[1]) == sorted(expected))

    async def zone_owner(self, zone: str, node_id: str, owner: str) -> ProbeResult | None:
        """Whether DNS gives the ownership record that names gateway and owner."""
        if self._dns is None:
            return None
        if not await self._runs("DNS", self._dns):
            return ProbeResult.NO_PLANE
        async with self._limit:
            texts = await self._query(self._dns, f"{OWNER_FIELD}.{zone}", "TXT")
        return _right(any(_members(text) == {"identity": node_id, "owner": owner} for text in texts))

    async def proxied(self, domain: str, target: Service) -> ProbeResult | None:
        """Whether the proxy reaches the target, on each of its ports; the worst result counts."""
        visits: list[tuple[_Address | None, int, _Visit]] = [
            (self._http, target.httpport, _visit_http),
            (self._tls, target.tlsport, _visit_tls),
        ]
        found = [
            await self._proxied(domain, listens, (target.addr, port), visit)
            for listens, port, visit in visits
            if listens is not None and port
        ]
        return max(found, key=_BY_WEIGHT.index, default=None)

    async def _proxied(self, domain: str, listens: _Address, target: _Address, visit: _Visit) -> ProbeResult:
        if not await self._runs("the proxy", listens):
            return ProbeResult.NO_PLANE
        async with self._limit, asyncio.TaskGroup() as both:
            through = both.create_task(visit(domain, *listens))
            await asyncio.wait({through}, timeout=_USUAL_TIME)
            if through.done() and through.result():
                return ProbeResult.RIGHT
            if denied_reason(target[0], self._policy.allowed_targets, self._policy.own_addresses) is not None:
                alone = True  # what is not to be reached is not tried either
            else:
                alone = await visit(domain, *target)
            return ProbeResult.RIGHT if await through else ProbeResult.WRONG if alone else ProbeResult.NO_TARGET

    async def proxy_runs(self) -> bool:
        """Whether the proxy runs. True as well when it is configured to listen nowhere."""
        return all([await self._runs("the proxy", address) for address in (self._http, self._tls) if address])

    async def peer(self, key: str, address: str) -> ProbeResult | None:
        """Whether the WireGuard interface has this peer (base64), with this address only; None: not permitted."""
        self._peers = self._peers or asyncio.create_task(self._listed_peers())
        found = await self._peers
        if _4TO6 in self._down:
            return ProbeResult.NO_PLANE
        return None if found is None else _right(found.get(key) == address)

    async def _listed_peers(self) -> dict[str, str] | None:
        """Allowed addresses by public key; None when only others may see them, or there is no interface."""
        try:
            listed = await run("wg", "show", self._interface, "allowed-ips")
        except ProgramError as error:
            if not any(text in str(error) for text in _FORBIDDEN):
                self._down[_4TO6] = str(error)
            return None
        lines = (line.partition("\t") for line in listed.decode("ascii", "replace").splitlines())
        return {key: addresses for key, _, addresses in lines}

    async def _runs(self, plane: str, listens: _Address) -> bool:
        """Whether the plane listens at its address; probed once."""
        if listens not in self._listening:
            self._listening[listens] = asyncio.create_task(_accepts(*listens))
        runs = await self._listening[listens]
        if not runs and (plane not in self._down or listens == self._http):  # of two the same one is named each time
            self._down[plane] = f"nothing answers at {shown(*listens)}"
        return runs

    async def _query(self, server: tuple[str, int], name: str, kind: str) -> list[str]:
        """Texts of the records of this type; empty for every other answer, and for none."""
        try:
            query = dns.message.make_query(name + ".", kind)
        except dns.exception.DNSException:
            return []
        query.flags &= ~dns.flags.RD
        host, port = server
        for _ in range(_TRIES):
            # A server that is down costs a few time-outs, not one for every name.
            if self._silence >= _MOST_SILENCE:
                break
            try:
                answer, _tcp = await dns.asyncquery.udp_with_fallback(query, host, timeout=_QUERY_TIME, port=port)
            except (dns.exception.DNSException, OSError):
                self._silence += 1
                continue
            self._silence = 0
            return _texts(answer, kind)
        return []


_BY_WEIGHT = (ProbeResult.RIGHT, ProbeResult.NO_TARGET, ProbeResult.WRONG, ProbeResult.NO_PLANE)


def _right(whether: bool) -> ProbeResult:
    return ProbeResult.RIGHT if whether else ProbeResult.WRONG


async def _accepts(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_QUERY_TIME):
            _, writer = await asyncio.open_connection(host, port)
            writer.transport.abort()
    except (OSError, TimeoutError):
        return False
    return True


def _texts(answer: dns.message.Message, kind: str) -> list[str]:
    if answer.rcode() != dns.rcode.NOERROR:
        return []
    wanted = dns.rdatatype.from_text(kind)
    records = [record for rrset in answer.answer if rrset.rdtype == wanted for record in rrset]
    if wanted == dns.rdatatype.TXT:
        return [b"".join(record.strings).decode("utf-8", "replace") for record in records]
    return [record.to_text() for record in records]


async def _visit_http(domain: str, host: str, port: int) -> bool:
    """HEAD as a browser would ask; any answer that is the target's counts."""
    head = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_VISIT_TIME):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"HEAD / HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\n\r\n".encode())
                while _END_OF_HEAD not in head and len(head) < _HEAD:
                    received = await reader.read(_HEAD)
                    if not received:
                        break
                    head += received
            finally:
                writer.close()
    return head.startswith(b"HTTP/") and _OWN_ANSWER not in head.lower()


async def _visit_tls(domain: str, host: str, port: int) -> bool:
    """Send a ClientHello with this server name; any certificate counts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_VISIT_TIME):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=domain)
            writer.transport.abort()
    except ssl.SSLEOFError:
        return False
    except ssl.SSLError as error:
        # A target that disagrees about versions or ciphers has been reached.
        return not any(alert in (error.reason or "") for alert in _OWN_ALERTS)
    except (OSError, TimeoutError, ValueError):
        return False
    return True


def _first(listen: Sequence[str]) -> tuple[str, int] | None:
    """The address to probe: the first that is listened on, loopback for a wildcard."""
    if not listen:
        return None
    host, port = host_port(listen[0])
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - read, not listened on


def _members(text: str) -> dict[str, object]:
    try:
        return gojson.decode_object(text.encode())
    except ValueError:
        return {}
