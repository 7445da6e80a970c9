"""Sends DNS updates and looks at what there is, as any DNS client would."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final, TypeVar

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update
import dns.xfr
import dns.zone

from tfgateway.errors import ConfigError, GatewayError

_PATIENCE: Final = 10.0
"""Seconds for an answer."""
TYPES: Final = ("A", "AAAA", "CAA", "CNAME", "HTTPS", "MX", "NS", "DS", "PTR", "SRV", "SSHFP", "SVCB", "TLSA", "TXT")
_CHALLENGE: Final = "_acme-challenge"
_AT_ZONE: Final = ("SOA", "NS")
_WORDS: Final = {
    "NOTAUTH": "the gateway does not know the key, is not authoritative for the zone, or the clocks differ",
    "NOTZONE": "the name is in another zone",
    "REFUSED": "the name is not yours, the type is not for users, a reservation made it, or your quota is used up",
    "SERVFAIL": "the gateway cannot take updates now: send it again",
}

_M = TypeVar("_M", bound=dns.message.Message)


class UpdateError(GatewayError):
    """A gateway's DNS did not do what it was asked, or does not answer."""


Line = dict[str, object]
"""A record: name (without final dot), type, ttl (seconds), data (as in a zone file)."""


class UpdateClient:
    """A user's DNS client at one gateway."""

    def __init__(self, key_name: str, secret: bytes, host: str, port: int) -> None:
        """host: name or address. Errors: ``UpdateError``: it has no address."""
        self._key = dns.tsig.Key(key_name, secret, "hmac-sha256")
        self._port = port
        try:
            self._address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            raise UpdateError(f"'{host}' has no address: name one with --server") from error

    def zone_of(self, name: dns.name.Name) -> dns.name.Name:
        """The zone that a name is in. Errors: ``UpdateError``: none of this gateway's."""
        reply = self._ask(dns.message.make_query(name, "SOA"))
        for section in (reply.answer, reply.authority):
            for rrset in section:
                if rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name):
                    return rrset.name
        raise UpdateError(f"{name} is in no zone of this gateway")

    def at(self, name: dns.name.Name, kinds: Sequence[str] = TYPES) -> list[Line]:
        """The records of a name. Errors: ``UpdateError``."""
        found: list[Line] = []
        for kind in kinds:
            reply = self._ask(dns.message.make_query(name, kind))
            rrset = reply.get_rrset(reply.answer, name, dns.rdataclass.IN, dns.rdatatype.from_text(kind))
            found += [_line(name, kind, rrset.ttl, item) for item in rrset] if rrset is not None else []
        return found

    def within(self, name: dns.name.Name) -> list[Line]:
        """All records of a domain that its user delegated; of a subdomain, its own and its challenges'.

        Errors: ``UpdateError``.
        """
        if self.zone_of(name) != name:
            challenge = dns.name.from_text(_CHALLENGE, origin=name)
            return [*self.at(name), *self.at(challenge, ("TXT",))]
        zone = dns.zone.Zone(name, relativize=False)
        query, _ = dns.xfr.make_query(zone, keyring={self._key.name: self._key}, keyname=self._key.name)
        try:
            dns.query.inbound_xfr(
                self._address, zone, query, port=self._port, timeout=_PATIENCE, lifetime=6 * _PATIENCE
            )
        except dns.xfr.TransferError as error:
            raise UpdateError(f"{name} is not a domain that you delegated: {error}") from error
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise UpdateError(f"{name} was not copied: {_reason(error)}") from error
        return [
            _line(owner, dns.rdatatype.to_text(item.rdtype), ttl, item)
            for owner, ttl, item in zone.iterate_rdatas()
            if not (owner == name and dns.rdatatype.to_text(item.rdtype) in _AT_ZONE)
        ]

    def is_exactly(self, name: dns.name.Name, kind: str, wanted: Sequence[dns.rdata.Rdata]) -> bool:
        """Whether a name has exactly these records of a type, asked by prerequisites. Errors: ``UpdateError``."""
        message = self._message(name)
        for item in wanted:
            message.present(name, item)
        if not wanted:
            message.absent(name, kind)
        return self._holds(message)

    def add(self, name: dns.name.Name, ttl: int, wanted: Sequence[dns.rdata.Rdata], *, replace: bool) -> None:
        """Add records of one type; replace: instead of those there are. Errors: ``UpdateError``."""
        message = self._message(name)
        if replace:
            message.delete(name, wanted[0].rdtype)
        for item in wanted:
            message.add(name, ttl, item)
        self._send(message)
        # RFC 2136 §3.4.2.2: an alias beside other records is passed over without an error.
        kind = dns.rdatatype.to_text(wanted[0].rdtype)
        made = self._message(name)
        made.present(name, kind)
        if not self._holds(made):
            raise UpdateError(f"{name} has records beside which there is no {kind}: an alias has no others")

    def remove(self, name: dns.name.Name, kind: str, data: Sequence[dns.rdata.Rdata]) -> None:
        """Remove records; without data all of the type, and without a type all of the name. Errors: ``UpdateError``."""
        message = self._message(name)
        if not data:
            message.delete(name, *([kind] if kind else []))
        for item in data:
            message.delete(name, item)
        self._send(message)

    def _message(self, name: dns.name.Name) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(self.zone_of(name), keyring=self._key)

    def _send(self, message: dns.update.UpdateMessage) -> None:
        rcode = self._ask(message).rcode()
        if rcode != dns.rcode.NOERROR:
            raise _refused(rcode)

    def _holds(self, message: dns.update.UpdateMessage) -> bool:
        """Whether all prerequisites of a message hold, which asks for nothing else."""
        rcode = self._ask(message).rcode()
        if rcode not in (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NOERROR):
            raise _refused(rcode)
        return rcode == dns.rcode.NOERROR

    def _ask(self, message: _M) -> dns.message.Message:
        """Over TCP: nothing is sent twice. Errors: ``UpdateError``."""
        message.flags &= ~dns.flags.RD
        try:
            return dns.query.tcp(message, self._address, timeout=_PATIENCE, port=self._port)
        except dns.tsig.PeerError as error:
            raise UpdateError(f"NOTAUTH: {_WORDS['NOTAUTH']} ({_reason(error)})") from error
        except (dns.exception.DNSException, OSError, EOFError) as error:
            where = f"{self._address} port {self._port}"
            raise UpdateError(f"the gateway's DNS at {where} does not answer: {_reason(error)}") from error


def name_of(text: str) -> dns.name.Name:
    """A name; the final dot may be missing. Errors: ``ConfigError``."""
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ConfigError(f"'{text}' is not a name: {_reason(error)}") from error


def records_of(kind: str, texts: Sequence[str]) -> list[dns.rdata.Rdata]:
    """Data as in a zone file. Errors: ``ConfigError``."""
    try:
        return [dns.rdata.from_text("IN", kind, text, origin=dns.name.root, relativize=False) for text in texts]
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigError(f"{kind}: {_reason(error)}") from error


def _refused(rcode: dns.rcode.Rcode) -> UpdateError:
    text = dns.rcode.to_text(rcode)
    return UpdateError(f"{text}: {_WORDS.get(text, 'the gateway did not carry it out')}")


def _line(name: dns.name.Name, kind: str, ttl: int, item: dns.rdata.Rdata) -> Line:
    return {"name": name.to_text(omit_final_dot=True), "type": kind, "ttl": ttl, "data": item.to_text()}


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
