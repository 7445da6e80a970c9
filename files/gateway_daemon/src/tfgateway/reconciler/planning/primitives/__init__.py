"""The types of reservations that this gateway serves, one module each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from tfgateway.reconciler.planning.claims import Claims
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.reconciler.planning.primitives import domain_delegate, gateway4to6, proxy, reverse_proxy, subdomain


class Primitive(Protocol):
    """The functions of a type of reservation, a module each. Pure: they plan rows in ``Claims``."""

    def admit(self, claims: Claims, reservation: Reservation) -> None:
        """Check that this new reservation may have what it asks for. Errors: ``ReservationRefused``, ``NotNow``."""

    def holds(self, claims: Claims, reservation: Reservation) -> bool:
        """Does redis hold exactly what this reservation asks for, as its user's, and does none that counts have it?

        Errors: ``NotNow``.
        """

    def ensure(self, claims: Claims, reservation: Reservation) -> None:
        """Write the rows of a reservation that counts; what is right already is left alone.

        Errors: ``ReservationRefused`` when it has lost its ground, ``NotNow``.
        """

    def release(self, claims: Claims, reservation: Reservation) -> None:
        """Remove the rows of one that does not count any more, unless they belong to or are needed by others."""


PRIMITIVES: Mapping[str, Primitive] = MappingProxyType(
    {
        "domain_delegate": domain_delegate,
        "subdomain": subdomain,
        "proxy": proxy,
        "reverse_proxy": reverse_proxy,
        "gateway4to6": gateway4to6,
    }
)


def result_data(claims: Claims, reservation: Reservation) -> bytes:
    """The JSON that goes with a success: ``null`` for all but 4to6. Errors: ``NotNow``."""
    return gateway4to6.result_data(claims, reservation) if reservation.type == "gateway4to6" else b"null"
