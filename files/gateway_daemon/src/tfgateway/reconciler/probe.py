"""Asks the planes of this node as a visitor would: a real query, a real connection; the kernel for its peers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from tfgateway import gojson
from tfgateway.errors import ProgramError
from tfgateway.layout.keys import OWNER_FIELD
from tfgateway.programs import run
from tfgateway.settings import Settings, host_port

_QUERY_TIME = 2.0
_TRIES = 2  # a UDP datagram may be lost
_MOST_SILENCE = 16
_VISIT_TIME = 10.0
_AT_ONCE = 32
_HEAD = 16 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_OWN_ANSWER = b"\r\nproxy-status: tfgateway"
"""The proxy marks what it says itself (RFC 9209): then no target was reached."""
_FORBIDDEN = ("Permission denied", "Operation not permitted")
_OWN_ALERTS = ("UNRECOGNIZED_NAME", "DECODE_ERROR")


class Prober:
    """Each question is answered by True or False, never by an error; a bounded number is asked at once."""

    def __init__(self, settings: Settings) -> None:
        self._dns = _first(settings.dns.listen)
        self._http = _first(settings.proxy.listen_http)
        self._tls = _first(settings.proxy.listen_tls)
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._silence = 0
        self._interface = settings.fourtosix.interface
        self._peers: asyncio.Task[dict[str, str] | None] | None = None

    async def addresses(self, name: str, expected: Collection[str]) -> bool | None:
        """Does DNS give exactly these addresses? None: nothing listens."""
        if self._dns is None:
            return None
        async with self._limit:
            found = await asyncio.gather(*(self._query(self._dns, name, kind) for kind in ("A", "AAAA")))
        return sorted(found[0] + found[1]) == sorted(expected)

    async def zone_owner(self, zone: str, node_id: str, owner: str) -> bool | None:
        """Does DNS give the ownership record that names gateway and owner? None: nothing listens."""
        if self._dns is None:
            return None
        async with self._limit:
            texts = await self._query(self._dns, f"{OWNER_FIELD}.{zone}", "TXT")
        return any(_members(text) == {"identity": node_id, "owner": owner} for text in texts)

    async def proxied(self, domain: str, *, http: bool, tls: bool) -> bool | None:
        """Is the target reached through the proxy, on each of the ports asked for? None: nothing listens."""
        visits: list[tuple[tuple[str, int], Callable[[str, str, int], Awaitable[bool]]]] = []
        if http and self._http is not None:
            visits.append((self._http, _visit_http))
        if tls and self._tls is not None:
            visits.append((self._tls, _visit_tls))
        if not visits:
            return None
        async with self._limit:
            return all([await visit(domain, *address) for address, visit in visits])

    async def peer(self, key: str, address: str) -> bool | None:
        """Has the WireGuard interface this peer (base64), with this address and no other? None: we may not look."""
        self._peers = self._peers or asyncio.create_task(_peers(self._interface))
        found = await self._peers
        return None if found is None else found.get(key) == address

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
    """A ClientHello with this server name; whose certificate comes back is not our business."""
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
        # Whoever disagrees about versions or ciphers has been reached.
        return not any(alert in (error.reason or "") for alert in _OWN_ALERTS)
    except (OSError, TimeoutError, ValueError):
        return False
    return True


async def _peers(interface: str) -> dict[str, str] | None:
    """Allowed addresses by public key; empty without the interface, None when only others may see it."""
    try:
        listed = await run("wg", "show", interface, "allowed-ips")
    except ProgramError as error:
        return None if any(text in str(error) for text in _FORBIDDEN) else {}
    lines = (line.partition("\t") for line in listed.decode("ascii", "replace").splitlines())
    return {key: addresses for key, _, addresses in lines}


def _first(listen: Sequence[str]) -> tuple[str, int] | None:
    """Where to ask: the first address that is listened on, loopback for a wildcard."""
    if not listen:
        return None
    host, port = host_port(listen[0])
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - read, not listened on


def _members(text: str) -> dict[str, object]:
    try:
        return gojson.decode_object(text.encode())
    except ValueError:
        return {}
