"""A reservation in one form, whether it comes from the explorer or from the record (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tfgateway.errors import SchemaError
from tfgateway.explorer.models import DomainDelegate, Gateway4To6, Proxy, ReverseProxy, Subdomain, Workload, gwid
from tfgateway.explorer.servable import canonical_domain
from tfgateway.ids import Gwid, Tid
from tfgateway.redis_schema.records import canonical_address
from tfgateway.redis_schema.reservations import Recorded
from tfgateway.wireguard_key import decode_key


@dataclass(frozen=True, slots=True)
class Reservation:
    """One reservation, the same whether it comes from the explorer or from the record."""

    id: Gwid
    user: Tid
    type: str
    data: Mapping[str, Any]
    """The members as ``redis_schema.reservations`` has them; from an old record they may be anything."""
    version: int = 2
    """Of the workload: it says how a secret is encrypted."""

    @property
    def domain(self) -> str:
        """As it is served (P-20); empty when there is none."""
        return canonical_domain(self.stored_domain)

    @property
    def stored_domain(self) -> str:
        """As it stands in the data: an old daemon may have written rows under exactly this text."""
        return self._text("domain")

    @property
    def public_key(self) -> bytes:
        """Of a WireGuard peer; empty when there is none that could be used."""
        try:
            return decode_key(self._text("public_key"))
        except SchemaError:
            return b""

    def _text(self, name: str) -> str:
        value = self.data.get(name)
        return value if isinstance(value, str) else ""


def of_workload(workload: Workload) -> Reservation:
    """The explorer's form, the domain as it is served; types that are not served have no data."""
    data: dict[str, Any] = {}
    if isinstance(workload, DomainDelegate):
        data = {"domain": canonical_domain(workload.domain)}
    elif isinstance(workload, Subdomain):
        destination = [*map(_canonical, workload.ips)]
        data = {"domain": canonical_domain(workload.domain), "destination": destination}
    elif isinstance(workload, Proxy):
        data = {
            "domain": canonical_domain(workload.domain),
            "addr": workload.addr,
            "port": workload.port,
            "port_tls": workload.port_tls,
        }
    elif isinstance(workload, ReverseProxy):
        data = {"domain": canonical_domain(workload.domain), "secret": workload.secret}
    elif isinstance(workload, Gateway4To6):
        data = {"public_key": workload.public_key}
    return Reservation(gwid(workload), _decimal(workload.customer_tid), workload.type_name, data, workload.version)


@lru_cache(maxsize=4096)
def _decimal(number: int) -> Tid:
    """The same object for all reservations of a user: they are many."""
    return Tid(str(number))


def _canonical(text: str) -> str:
    return canonical_address(text) or text


def of_record(record: Recorded) -> Reservation:
    """The recorded form."""
    return Reservation(record.id, record.user_id, record.type, record.data or {}, record.version)


def same_content(one: Reservation, other: Reservation) -> bool:
    """Whether both ask for the same; old records spell domains and addresses in their own way."""
    return (one.user, one.type, _normal(one)) == (other.user, other.type, _normal(other))


def _normal(reservation: Reservation) -> dict[str, Any]:
    normal = {**reservation.data, "domain": reservation.domain}
    destination = normal.get("destination")
    if isinstance(destination, list):
        normal["destination"] = [canonical_address(text) or text for text in map(str, destination)]
    return normal


def order(identifier: Gwid) -> tuple[int, int, str]:
    """Sort key of a gwid: by the explorer's id (P-8)."""
    number, _, own = identifier.partition("-")
    return (int(number) if number.isdecimal() else 0, int(own) if own.isdecimal() else 0, identifier)
