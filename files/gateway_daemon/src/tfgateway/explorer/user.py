"""A user's actions: register, reserve on a gateway, wait for the outcome, delete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from tfgateway.errors import ExplorerRefused, ExplorerUnavailable
from tfgateway.explorer import signing
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import (
    AdmittedGateway,
    DomainDelegate,
    Farm,
    NextAction,
    PoolOrder,
    Proxy,
    ResultState,
    ReverseProxy,
    SigningRequest,
    Subdomain,
    User,
    WalletAddress,
    Workload,
)
from tfgateway.identity import dns_key as tsig
from tfgateway.identity import proof_token
from tfgateway.identity.keys import Identity, node_id_to_public_key
from tfgateway.identity.sealing import encrypt_ecdh

_CONFLICT = 409
_LOOK_AGAIN = 0.5
_CURRENCY = "TFT"


class WorkloadStatus(StrEnum):
    """The state of a workload for its user."""

    PENDING = "pending"
    DEPLOYED = "deployed"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Account:
    """A registered user with the key of their own."""

    identity: Identity
    tid: int


def status(workload: Workload) -> tuple[WorkloadStatus, str]:
    """The state of a workload, with the gateway's (or explorer's) message."""
    message = workload.result.message
    if workload.next_action in (NextAction.DELETE, NextAction.DELETED):
        wanted = workload.signing_request_delete
        asked = 0 < wanted.quorum_min <= len(workload.signatures_delete)
        if not asked:
            return WorkloadStatus.FAILED, message or "the gateway removed it without a reason"
        return (
            WorkloadStatus.DELETED if workload.next_action == NextAction.DELETED else WorkloadStatus.DELETING
        ), message
    if workload.next_action == NextAction.INVALID:
        return WorkloadStatus.FAILED, message or "the pool needs more capacity"
    if workload.next_action == NextAction.DEPLOY and workload.result.state == ResultState.OK:
        return WorkloadStatus.DEPLOYED, message
    return WorkloadStatus.PENDING, "waiting for signatures" if workload.next_action == NextAction.SIGN else message


async def register(client: ExplorerClient, identity: Identity, name: str, email: str) -> User:
    """The user of this name and key, created when there is none yet. Errors: ``ExplorerError``."""
    wanted = User(name=name, email=email, pubkey=identity.public_key.hex())
    try:
        return await client.register_user(wanted, identity)
    except ExplorerRefused as refused:
        # The first attempt may have succeeded although its answer was lost.
        known = await client.users(name.lower()) if refused.status == _CONFLICT else []
        for user in known:
            if user.pubkey.lower() == wanted.pubkey:
                return user
        raise


async def farm(client: ExplorerClient, tid: int, name: str, wallet: str) -> int:
    """The id of the user's farm of this name, created when there is none yet. Errors: ``ExplorerError``."""
    wallets = (WalletAddress(asset=_CURRENCY, address=wallet),)
    try:
        return await client.create_farm(Farm(name=name, threebot_id=tid, wallet_addresses=wallets))
    except ExplorerRefused as refused:
        known = await client.farms(name) if refused.status == _CONFLICT else []
        for found in known:
            if found.threebot_id == tid:
                return found.id
        raise


async def admit(client: ExplorerClient, wanted: AdmittedGateway) -> bool:
    """Admit a gateway to a farm of the user's; False: it was admitted so already. Errors: ``ExplorerError``."""
    if wanted in await client.admissions(wanted.farm_id):
        return False
    await client.admit(wanted)
    return True


async def withdraw(client: ExplorerClient, farm_id: int, node_id: str) -> bool:
    """Take back the consent to a gateway; False: there was none. Errors: ``ExplorerError``."""
    if node_id not in {admitted.node_id for admitted in await client.admissions(farm_id)}:
        return False
    await client.withdraw(farm_id, node_id)
    return True


async def create_pool(client: ExplorerClient, tid: int, node_ids: Sequence[str]) -> int:
    """A new pool for these gateways, which need no capacity. Errors: ``ExplorerError``."""
    return await client.create_pool(PoolOrder(node_ids=tuple(node_ids), currencies=(_CURRENCY,)), tid)


async def find_pool(client: ExplorerClient, tid: int, node_id: str) -> int:
    """A pool of the user that lists the gateway, created when there is none. Errors: ``ExplorerError``."""
    for pool in await client.pools(tid):
        if node_id in pool.node_ids:
            return pool.pool_id
    return await create_pool(client, tid, (node_id,))


async def reserve(
    client: ExplorerClient, account: Account, wanted: Workload, *, clock: Callable[[], float] = time.time
) -> Workload:
    """Sign and post a workload; what is returned has its id. ``pool_id`` 0: a pool is found or created.

    Errors: ``ExplorerError``.
    """
    pool = wanted.pool_id or await find_pool(client, account.tid, wanted.node_id)
    workload = msgspec.structs.replace(
        wanted,
        workload_id=wanted.workload_id or 1,
        pool_id=pool,
        customer_tid=account.tid,
        epoch=int(clock()),
        # Without a quorum it could never be deleted.
        signing_request_delete=SigningRequest(signers=(account.tid,), quorum_min=1),
    )
    workload = signing.sign_workload(workload, account.identity)
    return msgspec.structs.replace(workload, id=await client.create_workload(workload))


def encrypted_secret(account: Account, node_id: str, secret: str) -> str:
    """A tunnel's secret as only the gateway (and the user) can read it, hex.

    Errors: ``IdentityError`` (node id), ``CryptoError``.
    """
    gateway = node_id_to_public_key(node_id)
    return encrypt_ecdh(secret.encode(), account.identity.seed, gateway).hex()


def proof_record(account: Account, node_id: str, domain: str) -> tuple[str, str]:
    """Name (empty: it would be too long) and text of the TXT record that proves a domain, as served, to a gateway.

    Errors: ``IdentityError`` (node id), ``CryptoError``.
    """
    gateway = node_id_to_public_key(node_id)
    token = proof_token.token(account.identity.seed, gateway, str(account.tid), domain)
    return proof_token.record_name(domain), proof_token.record_text(token)


def dns_key(account: Account, node_id: str) -> tuple[str, bytes]:
    """Name and secret of the TSIG key for DNS updates at a gateway. Errors: ``IdentityError``, ``CryptoError``."""
    gateway, tid = node_id_to_public_key(node_id), str(account.tid)
    return tsig.key_name(tid, node_id), tsig.secret(account.identity.seed, gateway, tid, node_id)


async def provision(client: ExplorerClient, account: Account, workload_id: int) -> None:
    """Sign that a workload may be deployed, one's own or another user's. Errors: ``ExplorerError``."""
    await _approve(client, account, workload_id, "provision")


async def delete(client: ExplorerClient, account: Account, workload_id: int) -> None:
    """Sign the deletion of a workload. Errors: ``ExplorerError``."""
    await _approve(client, account, workload_id, "delete")


async def _approve(client: ExplorerClient, account: Account, workload_id: int, word: str) -> None:
    # As the explorer returns it: its epoch is the explorer's.
    workload = await client.workload(workload_id)
    await client.sign(workload_id, word, signing.sign_approval(workload, word, account.tid, account.identity))


def dependents(ids: Collection[int], workloads: Iterable[Workload]) -> dict[int, list[Workload]]:
    """Workloads of a user that lose their zone when those with these ids are deleted: delegated domain -> children.

    A child that has another domain of the user above it on the same gateway, or goes itself, is none.
    """
    alive = [one for one in workloads if status(one)[0] in (WorkloadStatus.PENDING, WorkloadStatus.DEPLOYED)]
    delegated = [one for one in alive if isinstance(one, DomainDelegate)]
    kept = {(one.node_id, one.domain.lower()) for one in delegated if one.id not in ids}
    going = {(one.node_id, one.domain.lower()): one.id for one in delegated if one.id in ids}
    found: dict[int, list[Workload]] = {}
    for child in alive:
        if child.id in ids or not isinstance(child, Subdomain | Proxy | ReverseProxy):
            continue
        labels = child.domain.lower().split(".")
        above = [(child.node_id, ".".join(labels[start:])) for start in range(len(labels))]
        parents = [going[zone] for zone in above if zone in going]
        if parents and not kept.intersection(above):
            found.setdefault(parents[0], []).append(child)
    return found


async def wait_for_outcome(client: ExplorerClient, workload_id: int, time_limit: float) -> Workload:
    """The workload once it is no longer pending, or as it is after ``time_limit`` seconds.

    An explorer that is away is asked again until then. Errors: ``ExplorerError``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + time_limit
    while True:
        last_try = loop.time() >= deadline
        try:
            workload = await client.workload(workload_id)
        except ExplorerUnavailable:
            if last_try:
                raise
        else:
            if last_try or status(workload)[0] is not WorkloadStatus.PENDING:
                return workload
        await asyncio.sleep(min(_LOOK_AGAIN, max(deadline - loop.time(), 0)))
