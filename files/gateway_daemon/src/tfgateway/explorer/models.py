"""The explorer's objects, decoded as tolerantly as Go does.

Every member has its zero value as default, so an object that lacks a member decodes. Members appear in Go's order.
"""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from tfgateway import gojson
from tfgateway.errors import ParseError
from tfgateway.explorer import wire
from tfgateway.explorer.wire import ZERO_TIME, Date, Int64, RawJson, UInt16, UInt32
from tfgateway.ids import Gwid

PROXY, REVERSE_PROXY, SUBDOMAIN, DOMAIN_DELEGATE, GATEWAY4TO6 = range(5, 10)

WORKLOAD_TYPES = MappingProxyType(
    {
        0: "zdb",
        1: "container",
        2: "volume",
        3: "network",
        4: "kubernetes",
        PROXY: "proxy",
        REVERSE_PROXY: "reverse_proxy",
        SUBDOMAIN: "subdomain",
        DOMAIN_DELEGATE: "domain_delegate",
        GATEWAY4TO6: "gateway4to6",
        10: "network_resource",
        11: "public_ip",
        12: "virtual_machine",
    }
)
"""Names by number, as the explorer knows them."""
SKIPPED_BY_A_COPY = 1_000_000
"""Ids that a copy of our explorer's database skips: gateways may know workloads that were created after the copy was
made, and their ids must never be given to others. To a gateway such a jump says that the explorer was restored."""


class NextAction(IntEnum):
    """What the explorer wants to happen to a workload next."""

    CREATE = 0
    SIGN = 1
    PAY = 2
    DEPLOY = 3
    DELETE = 4
    INVALID = 5
    DELETED = 6
    MIGRATED = 7


class ResultState(IntEnum):
    """The node's answer."""

    ERROR = 0
    OK = 1
    DELETED = 2


class _Object(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every object."""


class SigningRequest(_Object, frozen=True):
    """The users that have to sign, and how many of them. ``quorum_min`` 0: nobody can."""

    signers: tuple[Int64, ...] = ()
    quorum_min: Int64 = 0


class Approval(_Object, frozen=True):
    """One signer's signature, hex; ``epoch`` is when the explorer received it."""

    tid: Int64 = 0
    signature: str = ""
    epoch: Date = ZERO_TIME


class Result(_Object, frozen=True):
    """A node's answer for one workload.

    ``category``: type number; ``workload_id``: gwid; ``data_json``: JSON text, sent as it is; ``signature``: hex.
    """

    category: Int64 = 0
    workload_id: str = ""
    data_json: bytes = RawJson(b"null")
    signature: str = ""
    state: Int64 = ResultState.ERROR
    message: str = ""
    epoch: Date = ZERO_TIME
    node_id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.data_json, RawJson):
            msgspec.structs.force_setattr(self, "data_json", RawJson(self.data_json))

    @property
    def empty(self) -> bool:
        """True when no node has answered yet: the state is no evidence, since 0 is also "error"."""
        return not self.workload_id and self.epoch in (0, ZERO_TIME)


class Workload(_Object, frozen=True):
    """What all workloads have. ``workload_id`` is the user's number, ``id`` the explorer's."""

    signed: ClassVar[tuple[str, ...]] = ()
    """Names of the type's own members, in the order in which the signature covers them."""

    workload_id: Int64 = 0
    node_id: str = ""
    pool_id: Int64 = 0
    reference: str = ""
    description: str = ""
    signing_request_provision: SigningRequest = SigningRequest()
    signing_request_delete: SigningRequest = SigningRequest()
    id: Int64 = 0
    json: str = ""
    customer_tid: Int64 = 0
    customer_signature: str = ""
    next_action: Int64 = NextAction.CREATE
    signatures_provision: tuple[Approval, ...] = ()
    signature_farmer: Approval = Approval()
    signatures_delete: tuple[Approval, ...] = ()
    epoch: Date = ZERO_TIME
    metadata: str = ""
    result: Result = Result()
    workload_type: Int64 = 0
    version: Int64 = 0

    @property
    def type_name(self) -> str:
        """``"subdomain"``; the number as text when the explorer itself does not know it."""
        return WORKLOAD_TYPES.get(self.workload_type, str(self.workload_type))


class Proxy(Workload, frozen=True):
    """TCP proxy of a domain to an address: ``port`` for HTTP, ``port_tls`` for TLS."""

    signed: ClassVar[tuple[str, ...]] = ("domain", "addr", "port", "port_tls")

    workload_type: Int64 = PROXY
    domain: str = ""
    addr: str = ""
    port: UInt32 = 0
    port_tls: UInt32 = 0


class ReverseProxy(Workload, frozen=True):
    """Proxy of a domain into a tunnel; ``secret`` is hex of the secret encrypted for the gateway."""

    signed: ClassVar[tuple[str, ...]] = ("domain", "secret")

    workload_type: Int64 = REVERSE_PROXY
    domain: str = ""
    secret: str = ""


class Subdomain(Workload, frozen=True):
    """Address records of one name; ``ips`` are texts that nobody has checked."""

    signed: ClassVar[tuple[str, ...]] = ("domain", "ips")

    workload_type: Int64 = SUBDOMAIN
    domain: str = ""
    ips: tuple[str, ...] = ()


class DomainDelegate(Workload, frozen=True):
    """A zone claimed by a user."""

    signed: ClassVar[tuple[str, ...]] = ("domain",)

    workload_type: Int64 = DOMAIN_DELEGATE
    domain: str = ""


class Gateway4To6(Workload, frozen=True):
    """IPv6 over WireGuard; ``public_key`` is base64."""

    signed: ClassVar[tuple[str, ...]] = ("public_key",)

    workload_type: Int64 = GATEWAY4TO6
    public_key: str = ""


class UnknownWorkload(Workload, frozen=True):
    """A workload that no gateway can serve; ``type_name`` says what it claims to be."""


class Undecodable(_Object, frozen=True):
    """A workload whose JSON cannot be understood (P-2). ``gwid`` is None when not even that could be read."""

    id: int
    gwid: Gwid | None
    type: int
    reason: str


MODELS: MappingProxyType[int, type[Workload]] = MappingProxyType(
    {
        PROXY: Proxy,
        REVERSE_PROXY: ReverseProxy,
        SUBDOMAIN: Subdomain,
        DOMAIN_DELEGATE: DomainDelegate,
        GATEWAY4TO6: Gateway4To6,
    }
)
"""The types that a gateway serves."""


def gwid(workload: Workload) -> Gwid:
    """Global workload id: ``"311-1"``."""
    return Gwid(f"{workload.id}-{workload.workload_id}")


def parse_workload(value: object) -> Workload:
    """A workload from a plain JSON object. Errors: ``ParseError``."""
    number = _number(value, "workload_type") or 0
    return wire.decode(value, MODELS.get(number, UnknownWorkload))


def decode_workload(value: object) -> Workload | Undecodable:
    """As ``parse_workload``, but never raises: one bad item must not stop the others (P-2)."""
    try:
        return parse_workload(value)
    except ParseError as error:
        own, users = _number(value, "id"), _number(value, "workload_id")
        return Undecodable(
            id=own or 0,
            gwid=None if own is None or users is None else Gwid(f"{own}-{users}"),
            type=_number(value, "workload_type") or 0,
            reason=str(error),
        )


def _number(value: object, name: str) -> int | None:
    """A member that is needed even when the rest cannot be decoded; None when it is absent or no number."""
    member: Any = gojson.fold(value).get(name) if isinstance(value, dict) else None
    return member if type(member) is int else None


class Location(_Object, frozen=True):
    """The location of a gateway or farm."""

    city: str = ""
    country: str = ""
    continent: str = ""
    latitude: float = 0.0
    longitude: float = 0.0


class WorkloadCounts(_Object, frozen=True):
    """Workloads by kind on a gateway."""

    network: UInt16 = 0
    network_resource: UInt16 = 0
    volume: UInt16 = 0
    zdb_namespace: UInt16 = 0
    container: UInt16 = 0
    k8s_vm: UInt16 = 0
    generic_vm: UInt16 = 0
    proxy: UInt16 = 0
    reverse_proxy: UInt16 = 0
    subdomain: UInt16 = 0
    delegate_domain: UInt16 = 0


class Gateway(_Object, frozen=True):
    """A gateway in the directory. ``uptime``: seconds of the machine; ``public_key_hex``: ed25519."""

    id: Int64 = 0
    node_id: str = ""
    farm_id: Int64 = 0
    os_version: str = ""
    created: Date = ZERO_TIME
    updated: Date = ZERO_TIME
    uptime: Int64 = 0
    address: str = ""
    location: Location = Location()
    public_key_hex: str = ""
    workloads: WorkloadCounts = WorkloadCounts()
    managed_domains: tuple[str, ...] = ()
    tcp_router_port: Int64 = 0
    dns_nameserver: tuple[str, ...] = ()
    free_to_use: bool = False


class WalletAddress(_Object, frozen=True):
    """A payment address of a user or farm."""

    asset: str = ""
    address: str = ""


class User(_Object, frozen=True):
    """A user of the explorer; ``id`` is the tid, ``pubkey`` hex of the ed25519 key."""

    id: Int64 = 0
    name: str = ""
    email: str = ""
    pubkey: str = ""
    host: str = ""
    description: str = ""
    wallet_addresses: tuple[WalletAddress, ...] = ()
    trusted_sales_channel: bool = False


class Farm(_Object, frozen=True):
    """A farm; ``threebot_id`` is its owner's tid."""

    id: Int64 = 0
    threebot_id: Int64 = 0
    iyo_organization: str = ""
    name: str = ""
    wallet_addresses: tuple[WalletAddress, ...] = ()
    location: Location = Location()
    email: str = ""
    prefix_zero: str = ""


class AdmittedGateway(_Object, frozen=True):
    """The consent of a farm's owner that a gateway joins it, with these managed domains and no others (ours)."""

    farm_id: Int64 = 0
    node_id: str = ""
    managed_domains: tuple[str, ...] = ()


class PoolOrder(_Object, frozen=True):
    """What a user asks for when reserving a pool; ``pool_id`` 0: a new one. Member order is what gets signed."""

    pool_id: Int64 = 0
    cus: Int64 = 0
    sus: Int64 = 0
    ipv4us: Int64 = 0
    node_ids: tuple[str, ...] = ()
    currencies: tuple[str, ...] = ()
    nonce: str | msgspec.UnsetType = msgspec.UNSET
    """Of ours: an order that has one is taken once; other clients leave it out."""


class Pool(_Object, frozen=True):
    """Capacity that a user may use on ``node_ids``."""

    pool_id: Int64 = 0
    cus: float = 0.0
    sus: float = 0.0
    ipv4us: float = 0.0
    node_ids: tuple[str, ...] = ()
    last_updated: Date = ZERO_TIME
    active_cu: float = 0.0
    active_su: float = 0.0
    active_ipv4: float = 0.0
    empty_at: Int64 = 0
    customer_tid: Int64 = 0
    sponsor_tid: Int64 = 0
    active_workload_ids: tuple[Int64, ...] = ()
