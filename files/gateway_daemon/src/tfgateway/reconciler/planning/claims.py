"""Claims to names while a plan is made, of reservations that count and of rows in redis (pure)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from tfgateway.errors import CryptoError, SchemaError
from tfgateway.explorer.models import WORKLOAD_TYPES
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.identity.keys import Identity
from tfgateway.identity.proof_token import token
from tfgateway.ids import Gwid, NodeId, Tid
from tfgateway.net.addresses import IPAddress, IPNetwork, denied_reason
from tfgateway.reconciler.planning.inputs.names import NameIndex, suffixes
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.reconciler.planning.inputs.rows import Rows
from tfgateway.reconciler.planning.proofs import NameFacts, Proof, Proofs, proof_by
from tfgateway.reconciler.planning.waiting import Waiting
from tfgateway.redis_schema.keys import (
    MANAGED_DOMAINS,
    OWNER_FIELD,
    ZONE_OWNERS,
    domain_of_service_key,
    service_key,
    zone_of_key,
)
from tfgateway.redis_schema.owners import decode_zone_owner
from tfgateway.redis_schema.services import decode_service
from tfgateway.wireguard_key import encode_key

OPERATOR = "(operator)"
"""Holds a zone that was made by hand: it has no owner, and is not to be touched."""
UNREADABLE = "(unreadable)"
"""Holds a zone whose owner in redis cannot be read: it is not free."""

Kind = Literal["zone", "name", "service", "peer", "key"]
"""What is held: domains as zone, name or service; of 4to6 a user as peer, and the user's public key."""

_KINDS: Mapping[str, Kind] = {
    "domain_delegate": "zone",
    "subdomain": "name",
    "proxy": "service",
    "reverse_proxy": "service",
    "gateway4to6": "peer",
}

UserKeys = Mapping[Tid, bytes | None]
"""User -> ed25519 public key; None: the explorer has none that could be used."""


class ReservationRefused(Exception):
    """The reservation can not be served, now or later; the text is for the user."""


def refuse_if(text: str | None) -> None:
    """Errors: ``ReservationRefused`` with the text, if there is one."""
    if text is not None:
        raise ReservationRefused(text)


class ParentMissing(ReservationRefused):
    """There is no zone yet, or no more, that the reservation could be in: it may wait for one."""

    def __init__(self, parent: str) -> None:
        super().__init__(f"{parent} is not managed by the gateway. delegate the domain first")
        self.parent = parent


class ProxiesBelow(ReservationRefused):
    """Proxies of other users are at or below a domain that is to be delegated; they may have to give way."""

    def __init__(self, text: str, proxies: tuple[Reservation, ...]) -> None:
        super().__init__(text)
        self.proxies = proxies


class TakenByOthers(ReservationRefused):
    """Proxies of other users have this very domain; they may have to give way."""

    def __init__(self, text: str, proxies: tuple[Reservation, ...]) -> None:
        super().__init__(text)
        self.proxies = proxies


class NotNow(Exception):
    """No result until something else is corrected (P-3); the text is for the operator."""


@dataclass(frozen=True, slots=True)
class FourToSix:
    """The pool and endpoint of this gateway for WireGuard peers."""

    pool: AddressPool
    endpoint: str
    """``host:port`` that peers connect to."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Identity, limits and permissions of this gateway."""

    identity: Identity
    managed_domains: tuple[str, ...] = ()
    """Lower case."""
    released: frozenset[str] = frozenset()
    """Domains, lower case, that an operator releases: the gateway that claims them does not exist any more (P-19)."""
    released_reservations: Mapping[Gwid, str] = field(default_factory=dict)
    """Reservations that an operator ends, and the reason, which is for the user."""
    own_names: frozenset[str] = frozenset()
    """Host names of the gateway itself, lower case: a user with one could get a certificate for it (P-6)."""
    reserved_names: frozenset[str] = frozenset()
    """Labels, lower case, that no user may claim directly below a managed domain."""
    blocked_names: frozenset[str] = frozenset()
    """Domains, lower case, that no user may claim, nor anything below them."""
    allowed_targets: tuple[IPNetwork, ...] = ()
    own_addresses: frozenset[IPAddress] = frozenset()
    """Of the interfaces, and ``public_addresses``."""
    public_addresses: frozenset[IPAddress] = frozenset()
    """Addresses that lead here though no interface has them: 1:1 NAT."""
    delegated: Mapping[str, bool | None] = field(default_factory=dict)
    """Domains, lower case, whose parent zones were asked for NS records, and whether these name this gateway; None:
    they did not answer."""
    proof: Literal["off", "dns"] = "off"
    """Whether DNS has to prove who may have a proxy outside the zones."""
    proof_timeout: float = 604_800.0
    """Seconds without proof after which such a proxy ends."""
    name_facts: Mapping[str, NameFacts] = field(default_factory=dict)
    """Domains, lower case, that were looked up for a proof."""
    fourtosix: FourToSix | None = None
    """None: no IPv6 here."""
    parent_timeout: float = 3600.0
    """Seconds that a reservation waits for its parent zone; 0: it does not."""
    repair_orphans: bool = False
    """Whether what stands behind no reservation is removed (``orphans``), not only reported."""
    max_removal_share: float = 0.3
    max_removal_count: int = 10
    max_reservations_per_user: int = 1000
    max_zones_per_user: int = 100
    max_addresses: int = 100

    @property
    def node_id(self) -> NodeId:
        return self.identity.node_id

    @property
    def reached_at(self) -> frozenset[IPAddress]:
        """Addresses that lead here from everywhere."""
        public = {address for address in self.own_addresses if denied_reason(str(address), (), ()) is None}
        return self.public_addresses.union(public)

    def withheld(self, name: str) -> str | None:
        """Why the operator lets no user claim a name (P-6), for the user; None: any may."""
        label, _, parent = name.partition(".")
        if label in self.reserved_names and parent in self.managed_domains:
            return f"the operator of the gateway reserves '{label}' directly below {parent}"
        blocked = next((above for above in suffixes(name) if above in self.blocked_names), None)
        return f"the operator of the gateway blocks {blocked}" if blocked is not None else None


class Claims:
    """Indexes of reservations and rows by name; both change while the plan grows.

    ``zones`` and ``names`` hold zones and subdomains by owner (node id or tid). A reservation that counts overrules
    what redis says, so that a row changed by others is repaired rather than believed.
    """

    def __init__(self, policy: Policy, rows: Rows, users: UserKeys = MappingProxyType({})) -> None:
        self.policy = policy
        self.rows = rows
        self.waiting = Waiting(rows, policy.parent_timeout)
        self.unknown_users: set[Tid] = set()
        """Users whose key was needed and is not known."""
        self.unknown_delegations: set[str] = set()
        """Domains of which ``Policy.delegated`` was needed and says nothing."""
        self.proofs = Proofs(rows, policy.proof_timeout)
        self.unknown_names: set[str] = set()
        """Domains of which ``Policy.name_facts`` was needed for a decision and says nothing."""
        self.due_names: set[str] = set()
        """Domains of proxies that have to be looked up again."""
        self._reached_at = policy.reached_at if policy.proof == "dns" else frozenset()
        self._reached_by = policy.own_names.union(policy.managed_domains)
        self._users = users
        # Nearly everything has one holder: a container for each would cost more than all other claims.
        self._holders: dict[Kind, dict[str, Reservation | tuple[Reservation, ...]]] = defaultdict(dict)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._services: NameIndex | None = None
        self.zones = NameIndex(self._zone_owners())
        self.names = NameIndex({name.lower(): _tid(raw) for name, raw in rows.fields(MANAGED_DOMAINS)})

    def _zone_owners(self) -> dict[str, str]:
        owners = {zone.lower(): owner for zone, raw in self.rows.fields(ZONE_OWNERS) if (owner := _owner(raw))}
        for key in self.rows.hashes():
            zone = zone_of_key(key.encode("utf-8", "surrogateescape"))
            if zone is not None and zone not in owners and self.rows.get(key, OWNER_FIELD) is None:
                owners[zone] = OPERATOR
        self.rows.undo()
        for domain in self.policy.managed_domains:
            # What the configuration names is ours, unless redis names another owner.
            if owners.get(domain) in (None, OPERATOR, UNREADABLE):
                owners[domain] = self.policy.node_id
        return owners

    def accept(self, reservation: Reservation) -> None:
        """Count a reservation: it holds its names from now on."""
        self._counts[reservation.user, reservation.type] += 1
        kind = _KINDS.get(reservation.type)
        for place, name in _places(reservation):
            others = tuple(one for one in self.holders(place, name) if one.id != reservation.id)
            self._holders[place][name] = (*others, reservation) if others else reservation
            if place == "service" and self._services is not None:
                self._services.set(name, "")
        if kind == "zone" and reservation.domain not in self.policy.managed_domains:
            self.zones.set(reservation.domain, reservation.user)
        elif kind == "name":
            self.names.set(reservation.domain, reservation.user)

    def reserve_place(self, reservation: Reservation) -> None:
        """Count a reservation that waits for its parent for the quotas of its user; it holds nothing."""
        self._counts[reservation.user, reservation.type] += 1

    def withdraw(self, reservation: Reservation) -> None:
        """Count a reservation no more; its rows are still there."""
        self._counts[reservation.user, reservation.type] -= 1
        for place, name in _places(reservation):
            if left := tuple(one for one in self.holders(place, name) if one.id != reservation.id):
                self._holders[place][name] = left
            else:
                self._holders[place].pop(name, None)

    def check_quotas(self, reservation: Reservation) -> None:
        """Check that its user may have one more reservation (P-26). Errors: ``ReservationRefused``."""
        user, policy = reservation.user, self.policy
        zones = self._counts[user, "domain_delegate"]
        if reservation.type == "domain_delegate" and zones >= policy.max_zones_per_user:
            raise ReservationRefused(
                f"quota exceeded: a user may have {policy.max_zones_per_user} domains on this gateway"
            )
        if sum(self._counts[user, kind] for kind in WORKLOAD_TYPES.values()) >= policy.max_reservations_per_user:
            most = policy.max_reservations_per_user
            raise ReservationRefused(f"quota exceeded: a user may have {most} reservations on this gateway")
        addresses = reservation.data.get("destination")
        if isinstance(addresses, list) and len(addresses) > policy.max_addresses:
            raise ReservationRefused(f"quota exceeded: a subdomain may have {policy.max_addresses} addresses")

    def reindex(self, kind: Literal["zone", "name"], name: str) -> None:
        """Update the index after rows of ``name`` were removed: another reservation may hold it."""
        index, key, read = (self.zones, ZONE_OWNERS, _owner) if kind == "zone" else (self.names, MANAGED_DOMAINS, _tid)
        raw = self.rows.get(key, name)
        holders = self.holders(kind, name)
        owner: str = holders[0].user if holders else read(raw) if raw is not None else ""
        if owner:
            index.set(name, owner)
        elif name not in self.policy.managed_domains:
            index.discard(name)

    def holders(self, kind: Kind, name: str) -> list[Reservation]:
        """The reservations that count for exactly this name; of a peer it is the tid, of a key its text."""
        found = self._holders[kind].get(name, ())
        return list(found) if isinstance(found, tuple) else [found]

    def services_within(self, name: str) -> Iterator[tuple[str, str]]:
        """Domains at or below ``name`` in the proxy's table, and whose; (operator): made by hand, or unreadable."""
        if self._services is None:
            # Not sorted: hardly any plan needs the order.
            keys = (key.encode("utf-8", "surrogateescape") for key in self.rows.strings())
            found = {domain.lower() for key in keys if (domain := domain_of_service_key(key))}
            self._services = NameIndex(dict.fromkeys(found.union(self._holders["service"]), ""))
        for domain in (name, *(below for below, _ in self._services.below(name))):
            raw = self.rows.get(service_key(domain))
            if holders := self.holders("service", domain):
                yield from ((domain, holder.user) for holder in holders)
            elif raw is not None:
                yield domain, _service_user(raw) or OPERATOR

    def user_key(self, tid: Tid) -> bytes | None:
        """A user's public key; None: the explorer has none. Errors: ``NotNow`` as long as it has not been asked."""
        if tid not in self._users:
            self.unknown_users.add(tid)
            raise NotNow(f"the explorer has not given the public key of user {tid}")
        return self._users[tid]

    def is_delegated(self, domain: str) -> bool:
        """Whether a domain's parent zone delegates it to this gateway. Errors: ``NotNow`` until that is looked up."""
        if domain not in self.policy.delegated:
            self.unknown_delegations.add(domain)
            raise NotNow(f"the parent zone of {domain} was not asked yet whether it delegates it to this gateway")
        return bool(self.policy.delegated[domain])

    def needs_proof(self, reservation: Reservation) -> bool:
        """Whether DNS has to prove that its user may have it: a proxy outside all zones."""
        if self.policy.proof == "off" or _KINDS.get(reservation.type) != "service":
            return False
        return self.zone_of(reservation.domain) is None

    def proof_of(self, reservation: Reservation) -> tuple[Proof, bool]:
        """What DNS proves for a reservation now, and whether it was asked and answered for all."""
        facts = self.policy.name_facts.get(reservation.domain)
        if facts is None:
            self.due_names.add(reservation.domain)
            return Proof.NONE, False
        complete, expected = facts.complete, None
        if facts.tokens:
            try:
                expected = self.token_of(reservation)
            except NotNow:
                complete = False
        return proof_by(facts, expected, self._reached_by, self._reached_at), complete

    def standing(self, reservation: Reservation) -> Proof:
        """What proves a reservation: what DNS says now, or has said last."""
        proof, complete = self.proof_of(reservation)
        return self.proofs.current(reservation.id, proof, complete=complete)

    def token_of(self, reservation: Reservation) -> str | None:
        """The token of a TXT record; None: its user has no key. Errors: ``NotNow`` until the explorer has given it."""
        key = self.user_key(reservation.user)
        try:
            return None if key is None else token(self.policy.identity.seed, key, reservation.user, reservation.domain)
        except CryptoError:
            return None

    def zone_of(self, name: str) -> tuple[str, str] | None:
        """The longest existing zone at or above ``name``, and its owner: where DNS looks (P-10)."""
        return next(self.zones.at_or_above(name), None)

    def is_gateways(self, zone: str) -> bool:
        """Whether a gateway has claimed the zone, this one or one with another identity."""
        owner = self.zones.get(zone)
        return owner not in (None, OPERATOR, UNREADABLE) and not owner.isdecimal()

    def is_operators(self, zone: str) -> bool:
        """Whether the zone was made by hand."""
        return self.zones.get(zone) == OPERATOR

    def check_readable(self, name: str) -> None:
        """Check the owners of zones at or above ``name``. Errors: ``NotNow``: an operator has to correct one."""
        for zone, owner in self.zones.at_or_above(name):
            if owner == UNREADABLE:
                raise NotNow(f"the owner of zone {zone} in redis cannot be read")
            if zone in self.policy.managed_domains and owner != self.policy.node_id:
                raise NotNow(f"managed domain {zone} is held by {owner} in redis")


def _places(reservation: Reservation) -> list[tuple[Kind, str]]:
    """The names, keys and peers that a reservation holds while it counts."""
    kind = _KINDS.get(reservation.type)
    if kind is None:
        return []
    if kind == "peer":
        return [(kind, reservation.user), ("key", encode_key(reservation.public_key))]
    return [(kind, reservation.domain)]


def _owner(raw: bytes) -> str:
    try:
        return decode_zone_owner(raw)
    except SchemaError:
        return UNREADABLE


def _service_user(raw: bytes) -> str:
    try:
        return decode_service(raw).user
    except SchemaError:
        return ""


def _tid(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
