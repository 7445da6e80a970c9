"""A gateway in memory: plans are real, redis is a dict that takes a transaction exactly as the script does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tfgateway.explorer.models import (
    DomainDelegate,
    Gateway4To6,
    NextAction,
    Proxy,
    Result,
    ResultState,
    ReverseProxy,
    Subdomain,
    UnknownWorkload,
    Workload,
    gwid,
)
from tfgateway.identity.keys import Identity
from tfgateway.instant import Instant
from tfgateway.net.addresses import networks
from tfgateway.reconciler.planning import render, results
from tfgateway.reconciler.planning.claims import Policy
from tfgateway.reconciler.planning.inputs import guard
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.records import RecordDecoder, Records, migrated
from tfgateway.reconciler.planning.inputs.rows import Actual, Seal, Transaction, seal
from tfgateway.reconciler.planning.model import Plan, Step
from tfgateway.reconciler.planning.planner import Planned, Stream, plan_all
from tfgateway.reconciler.planning.proofs import NameFacts
from tfgateway.reconciler.planning.removals import served
from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS

SECOND = 10**9
DOCUMENTATION = networks(["203.0.113.0/24", "2001:db8::/32"])
"""Targets of these tests; a gateway that is not told otherwise denies them, as nothing answers there."""


def read_records(raw: Iterable[tuple[str, bytes]]) -> Records:
    """Decode all records that can be decoded."""
    reader = RecordDecoder()
    for name, value in raw:
        reader.take(RESERVATIONS, name, value)
    return reader.records()


class Node:
    """``want`` tells what the explorer lists, ``settle`` plans and applies, ``text`` reads redis."""

    def __init__(self, *managed: str, **policy: Any) -> None:
        self.identity = Identity.from_seed(bytes(range(32)))
        self.node_id = self.identity.node_id
        allowed = policy.pop("allowed_targets", DOCUMENTATION)
        self.policy = Policy(identity=self.identity, managed_domains=managed, allowed_targets=allowed, **policy)
        self.desired = Desired(self.node_id)
        self.relist()
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.strings: dict[str, bytes] = {}
        self.users: dict[str, bytes | None] = {}
        self.now = 1_700_000_000 * SECOND
        self.ahead = 0
        """Nanoseconds by which the clock was set."""
        self.boot = "this boot"
        self.samples: tuple[guard.CountSample, ...] = ()
        self.delegated: set[str] = set()
        """Domains whose parent zones name this gateway."""
        self.dns: dict[str, NameFacts] = {}
        """What DNS says about domains; the others do not exist."""
        self.dark: set[str] = set()
        """Domains about which it does not answer."""

    # What the explorer says

    def delegate(self, number: int, domain: str, tid: int = 7, **members: Any) -> Workload:
        return self.want(DomainDelegate(domain=domain, **self._common(number, tid, members)))

    def subdomain(self, number: int, domain: str, *ips: str, tid: int = 7, **members: Any) -> Workload:
        return self.want(Subdomain(domain=domain, ips=ips, **self._common(number, tid, members)))

    def proxy(
        self, number: int, domain: str, addr: str = "203.0.113.10", *, port: int = 80, tls: int = 443, tid: int = 7
    ) -> Workload:
        common = self._common(number, tid, {})
        return self.want(Proxy(domain=domain, addr=addr, port=port, port_tls=tls, **common))

    def reverse_proxy(self, number: int, domain: str, secret: str, tid: int = 7, **members: Any) -> Workload:
        return self.want(ReverseProxy(domain=domain, secret=secret, **self._common(number, tid, members)))

    def peer(self, number: int, public_key: str, tid: int = 7, **members: Any) -> Workload:
        return self.want(Gateway4To6(public_key=public_key, **self._common(number, tid, members)))

    def unknown(self, number: int, workload_type: int) -> Workload:
        return self.want(UnknownWorkload(workload_type=workload_type, **self._common(number, 7, {})))

    def _common(self, number: int, tid: int, members: dict[str, Any]) -> dict[str, Any]:
        given = {
            "workload_id": 1,
            "node_id": self.node_id,
            "customer_tid": tid,
            "customer_signature": "ab" * 64,
            "next_action": NextAction.DEPLOY,
            "epoch": 1_611_000_003,
            "version": 2,
        }
        return {"id": number, **given, **members}

    def want(self, workload: Workload) -> Workload:
        assert self.desired.merge(workload)
        return workload

    def delete(self, workload: Workload, action: NextAction = NextAction.DELETE) -> None:
        self.want(msgspec.structs.replace(workload, next_action=action))

    def relist(self, *workloads: Workload) -> None:
        """A complete listing that shows exactly these."""
        self.desired.begin_listing()
        for workload in workloads:
            self.want(workload)
        self.desired.end_listing()

    def restore(self, *workloads: Workload) -> None:
        """The explorer lists these, and knows nothing else of what is recorded."""
        self.relist(*workloads)
        for name in self.desired.unlisted(self.hashes.get(RESERVATIONS, {})):
            self.desired.answer(name, None, self.desired.generation)

    # What the gateway does

    @property
    def instant(self) -> Instant:
        """Now, on a machine that was up for long."""
        return Instant(self.now + self.ahead, self.boot, self.now / SECOND)

    @property
    def actual(self) -> Actual:
        return Actual({key: dict(fields) for key, fields in self.hashes.items()}, dict(self.strings))

    def look(self) -> tuple[Actual, Records]:
        """As the store does it."""
        reader = RecordDecoder(self.desired)
        hashes = self.actual.hashes
        for key in (OUTBOX, RESERVATIONS):
            for name, value in hashes.get(key, {}).items():
                hashes[key][name] = reader.take(key, name, value)
        for name in reader.unsealed():
            hashes[OUTBOX][name] = self.hashes[OUTBOX][name]
        return Actual(hashes, dict(self.strings)), migrated(reader.records(), self.desired)

    def plan(self, consent: str = "") -> Plan:
        return self.planned(consent).plan

    def planned(self, consent: str = "") -> Planned:
        """With what plans for news from then on."""
        actual, records = self.look()
        most = guard.most(self.samples, self.instant)

        def planned() -> Planned:
            return plan_all(
                self.desired, records, actual, self.policy, self.instant, self.users, consent=consent, most=most
            )

        made = planned()
        if unknown := made.plan.unknown_delegations:
            self.look_up(unknown)
            made = planned()
        if unknown := {*made.plan.unknown_names, *made.plan.due_names} - self.dark:
            facts = {domain: self.dns.get(domain, NameFacts(complete=True)) for domain in unknown}
            self.policy = replace(self.policy, name_facts={**self.policy.name_facts, **facts})
            made = planned()
        return made

    def ask_dns(self) -> None:
        """What DNS said before is not known any more."""
        self.policy = replace(self.policy, name_facts={})

    def look_up(self, domains: Iterable[str]) -> None:
        known = {**self.policy.delegated, **{domain: domain in self.delegated for domain in domains}}
        self.policy = replace(self.policy, delegated=known)

    def plan_incremental(self, made: Planned) -> Plan | None:
        fresh = self.desired.take_fresh()
        return None if made.incremental is None or fresh is None else made.incremental.plan(fresh, self.instant)

    def stream(self) -> list[Step]:
        """What ``settle`` does, with each step applied before the next one is decided."""
        actual, records = self.look()
        stream = Stream(self.desired, records, actual, self.policy, self.instant, self.users)
        done = []
        for step in stream.steps():
            assert self.apply(step.transaction), render.step_line(step)
            done.append(step)
        made = stream.outcome().plan
        assert (made.steps, made.held) == ((), None)
        return done

    def apply(self, transaction: Transaction) -> bool:
        for row in transaction.expected:
            found = self.get(row.key, row.field)
            if (seal(found) if found is not None and isinstance(row.value, Seal) else found) != row.value:
                return False
        for row in transaction.writes:
            if row.field is None:
                if row.value is None:
                    self.strings.pop(row.key, None)
                else:
                    self.strings[row.key] = row.value
                continue
            fields = self.hashes.setdefault(row.key, {})
            if row.value is None:
                fields.pop(row.field, None)
            else:
                fields[row.field] = row.value
            if not fields:
                del self.hashes[row.key]
        return True

    def settle(self, consent: str = "") -> Plan:
        """Plan and apply all of it; then there is nothing left to do."""
        made = self.plan(consent)
        self.samples = guard.noted(self.samples, self.instant, self._served())
        for step in made.steps:
            assert self.apply(step.transaction), render.step_line(step)
        if made.consented:
            self.samples = guard.noted((), self.instant, self._served())
        again = self.plan()
        assert again.steps == (), render.as_text(again)
        return made

    def _served(self) -> int:
        actual, records = self.look()
        return served(records, actual)

    def acknowledge(self) -> None:
        """The explorer takes everything that waits in the outbox."""
        waiting, damaged = results.read_outbox(self.hashes.pop(OUTBOX, {}))
        assert not damaged
        for one in waiting:
            if one.result is not None:
                self.desired.acknowledge(one.id, one.result)
            if one.deleted:
                self.desired.finish(one.id)

    # What is there

    def get(self, key: str, field: str | None = None) -> bytes | None:
        return self.strings.get(key) if field is None else self.hashes.get(key, {}).get(field)

    def text(self, key: str, field: str | None = None) -> str | None:
        value = self.get(key, field)
        return None if value is None else value.decode()

    def put(self, key: str, field: str | None, value: str | None) -> None:
        """Somebody else's write."""
        if field is None:
            self.strings[key] = (value or "").encode()
        elif value is None:
            del self.hashes[key][field]
        else:
            self.hashes.setdefault(key, {})[field] = value.encode()

    def rows(self) -> dict[str, Any]:
        """Everything but what waits for the explorer."""
        return {**{key: dict(fields) for key, fields in self.hashes.items() if key != OUTBOX}, **self.strings}

    def answer(self, workload: Workload) -> tuple[ResultState, str] | None:
        """State and message of the result that waits for the explorer."""
        raw = self.get(OUTBOX, results.result_field(gwid(workload)))
        if raw is None:
            return None
        result = results.decode_result(gwid(workload), raw)
        return ResultState(result.state), result.message

    def refusal(self, workload: Workload) -> str:
        """Message of the error that waits for the explorer."""
        state, message = self.answer(workload) or (None, "")
        assert state == ResultState.ERROR
        return message

    def result(self, workload: Workload) -> Result:
        raw = self.get(OUTBOX, results.result_field(gwid(workload)))
        assert raw is not None
        return results.decode_result(gwid(workload), raw)

    def deleted(self, workload: Workload) -> bool:
        """Whether a deletion waits for the explorer."""
        return self.get(OUTBOX, results.deleted_field(gwid(workload))) is not None

    def recorded(self, workload: Workload) -> bool:
        return self.get(RESERVATIONS, gwid(workload)) is not None


@pytest.fixture
def node() -> Node:
    """Manages gw1.example; 10.91.7.6 may be a target although it is private."""
    return Node("gw1.example", allowed_targets=(*DOCUMENTATION, *networks(["10.91.7.6/32"])))


@pytest.fixture
def make_node() -> Callable[..., Node]:
    return Node
