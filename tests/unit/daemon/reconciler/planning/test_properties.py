"""Whatever is reserved, in whatever order, and wherever it is interrupted: it converges."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tfgateway.explorer.models import (
    DomainDelegate,
    Gateway4To6,
    NextAction,
    Proxy,
    ReverseProxy,
    Subdomain,
    UnknownWorkload,
    Workload,
    gwid,
)
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.identity.keys import Identity
from tfgateway.identity.sealing import encrypt_ecdh
from tfgateway.reconciler.planning import render
from tfgateway.reconciler.planning.claims import FourToSix
from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS, WAITING

_DOMAINS = st.sampled_from(
    [
        "a.test",
        "b.a.test",
        "www.a.test",
        "www.b.a.test",
        "gw1.example",
        "www.gw1.example",
        "x.www.gw1.example",
        "_x.gw1.example",
        "WWW.gw1.example",
        "nodots",
        "",
    ]
)
_ADDRESSES = st.lists(st.sampled_from(["203.0.113.5", "203.0.113.6", "2001:db8::5", "nonsense"]), max_size=3)
_GATEWAY = Identity.from_seed(bytes(range(32)))
_USERS = {str(tid): Identity.from_seed(bytes([tid]) * 32) for tid in (7, 8)}
_SECRETS = [encrypt_ecdh(f"{tid}:x".encode(), user.seed, _GATEWAY.public_key).hex() for tid, user in _USERS.items()]
_KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
_ACTIONS = st.sampled_from([NextAction.DEPLOY] * 4 + [NextAction.CREATE, NextAction.DELETE, NextAction.DELETED])


@st.composite
def _workloads(draw: st.DrawFn) -> list[Workload]:
    made: list[Workload] = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        common: dict[str, Any] = {
            "id": number,
            "workload_id": 1,
            "node_id": _GATEWAY.node_id,
            "version": 2,
            "customer_tid": draw(st.integers(7, 8)),
            "next_action": draw(_ACTIONS),
        }
        kind = draw(st.sampled_from("dssspurgg"))
        domain = draw(_DOMAINS)
        if kind == "d":
            made.append(DomainDelegate(domain=domain, **common))
        elif kind == "s":
            made.append(Subdomain(domain=domain, ips=tuple(draw(_ADDRESSES)), **common))
        elif kind == "p":
            made.append(Proxy(domain=domain, addr="203.0.113.10", port=draw(st.sampled_from([0, 80])), **common))
        elif kind == "r":
            made.append(ReverseProxy(domain=domain, secret=draw(st.sampled_from([*_SECRETS, "ab"])), **common))
        elif kind == "g":
            made.append(Gateway4To6(public_key=draw(st.sampled_from([*_KEYS, "ab"])), **common))
        else:
            made.append(UnknownWorkload(workload_type=12, **common))
    return made


def _node(make_node: Callable[..., Any]) -> Any:
    given_to_peers = FourToSix(AddressPool(_GATEWAY.seed), "198.51.100.7:3443")
    node = make_node("gw1.example", max_removal_count=100, fourtosix=given_to_peers)
    node.users = {tid: user.public_key for tid, user in _USERS.items()}
    return node


def _until_settled(node: Any) -> None:
    """Passes with every answer delivered between them; bounded, since each pass must bring it nearer."""
    for _ in range(5):
        made = node.plan()
        for step in made.steps:
            assert node.apply(step.transaction), render.step_line(step)
        node.acknowledge()
        if not made.steps:
            return
    raise AssertionError(f"does not settle:\n{render.as_text(made)}")


_RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


_MINE: dict[str, Any] = {"workload_id": 1, "node_id": _GATEWAY.node_id, "next_action": NextAction.DEPLOY, "version": 2}
_PROXY_BELOW_A_DELEGATION: list[Workload] = [
    Proxy(id=1, customer_tid=7, domain="a.test", addr="203.0.113.10", port=80, **_MINE),
    DomainDelegate(id=2, customer_tid=8, domain="a.test", **_MINE),
]


@_RELAXED
@example(workloads=_PROXY_BELOW_A_DELEGATION)
@given(workloads=_workloads())
def test_an_applied_plan_leaves_nothing_to_plan(make_node: Callable[..., Any], workloads: list[Workload]) -> None:
    node = _node(make_node)
    for workload in workloads:
        node.want(workload)
    made = node.settle()
    streamed = _node(make_node)
    streamed.look_up(node.policy.delegated)  # a stream does not begin again with what it lacks
    for workload in workloads:
        streamed.want(workload)
    streamed.policy = node.policy  # a stream is given what a plan has looked up
    assert tuple(streamed.stream()) == made.steps
    for workload in workloads:
        deployed = workload.next_action in (NextAction.DEPLOY, NextAction.CREATE)
        if deployed:
            waits = node.get(WAITING, gwid(workload)) is not None
            assert [node.recorded(workload), node.deleted(workload), waits].count(True) == 1, "deployed, refused, waits"
            assert (node.answer(workload) is None) is waits
        else:
            assert not node.recorded(workload)


@_RELAXED
@given(first=_workloads(), second=_workloads(), seed=st.randoms(use_true_random=False), cut=st.data())
def test_p25_an_interrupted_pass_converges_to_the_same_rows(
    make_node: Callable[..., Any],
    first: list[Workload],
    second: list[Workload],
    seed: random.Random,
    cut: st.DataObject,
) -> None:
    whole, broken = _node(make_node), _node(make_node)
    later = [_renumbered(workload) for workload in second]
    for workloads in (first, later):
        shuffled = list(workloads)
        seed.shuffle(shuffled)
        for workload in workloads:
            whole.want(workload)
        for workload in shuffled:
            broken.want(workload)
        _until_settled(whole)
        # Killed again and again, each time after some steps of the pass.
        for _ in range(2):
            steps = broken.plan().steps
            for step in steps[: cut.draw(st.integers(0, len(steps)))]:
                assert broken.apply(step.transaction)
        _until_settled(broken)
        assert broken.rows() == whole.rows()


@_RELAXED
@given(workloads=_workloads(), cut=st.data())
def test_p25_after_a_loss_in_the_middle_the_same_rows_come_back(
    make_node: Callable[..., Any], workloads: list[Workload], cut: st.DataObject
) -> None:
    node = _node(make_node)
    for workload in workloads:
        node.want(workload)
    _until_settled(node)
    before = node.rows()
    alive = set(node.hashes.get(RESERVATIONS, {}))
    node.hashes.clear()
    node.strings.clear()
    steps = node.plan().steps
    for step in steps[: cut.draw(st.integers(0, len(steps)))]:
        assert node.apply(step.transaction)
    _until_settled(node)
    assert node.rows() == before
    assert set(node.hashes.get(RESERVATIONS, {})) == alive
    assert OUTBOX not in node.hashes


def _renumbered(workload: Workload) -> Workload:
    return msgspec.structs.replace(workload, id=workload.id + 100)
