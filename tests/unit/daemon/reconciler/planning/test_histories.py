"""Any history of an explorer that is restored, a reconciler that is killed and an operator who consents.

The explorer, redis and time are models; what the explorer wants, plans, records and the guard are the real ones. In the
end redis holds what the last complete listing wants; nothing was removed without a deletion that the explorer shows, or
a consent to exactly that list; and the process that runs plans what one would plan that has just been started.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tfgateway.explorer.models import (
    DomainDelegate,
    NextAction,
    Proxy,
    Result,
    ResultState,
    Subdomain,
    UnknownWorkload,
    Workload,
    gwid,
)
from tfgateway.reconciler.planning import render, results
from tfgateway.reconciler.planning.inputs import guard
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.model import Action, Plan, Step
from tfgateway.reconciler.planning.planner import Planned
from tfgateway.reconciler.planning.removals import served
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, OUTBOX, RESERVATIONS, WAITING

from tests.unit.daemon.reconciler.conftest import SECOND, Node

LIVE = (NextAction.DEPLOY, NextAction.DELETE)
NAMES = ("a.gw1.example", "b.gw1.example", "x.a.gw1.example", "z.example", "w.z.example")
RESERVED = st.tuples(st.sampled_from("sssdpu"), st.sampled_from(NAMES), st.sampled_from((7, 7, 8)))
ENDLESS = 1e9
PAGE = 2


@dataclass
class Explorer:
    """What its database holds, and the copies that were made of it."""

    workloads: dict[str, Workload] = field(default_factory=dict)
    last_id: int = 0
    copies: list[tuple[dict[str, Workload], int]] = field(default_factory=list)

    def page(self, start: int) -> list[Workload]:
        live = [one for one in self.workloads.values() if one.next_action in LIVE and one.id >= start]
        return sorted(live, key=lambda one: one.id)[:PAGE] or self.queue()

    def queue(self) -> list[Workload]:
        return [one for one in self.workloads.values() if one.next_action in LIVE and self._to_do(one)]

    @staticmethod
    def _to_do(one: Workload) -> bool:
        return one.result.empty or one.next_action == NextAction.DELETE

    def put(self, name: str, result: Result) -> None:
        known = self.workloads.get(name)
        if known is None or known.next_action == NextAction.DELETED:
            return
        action = NextAction.DELETE if result.state == ResultState.ERROR else known.next_action
        self.workloads[name] = msgspec.structs.replace(known, result=result, next_action=action)

    def end(self, name: str) -> None:
        if known := self.workloads.get(name):
            self.workloads[name] = msgspec.structs.replace(known, next_action=NextAction.DELETED)


class Histories(RuleBasedStateMachine):
    """Rules are what can happen; ``node`` is redis, the settings and the process that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.explorer = Explorer()
        self.node = Node("gw1.example", max_removal_count=1, max_removal_share=0.2, parent_timeout=ENDLESS)
        self.consent = ""
        self.consented: frozenset[str] = frozenset()
        self.start()

    @initialize(
        before=st.lists(RESERVED, max_size=4),
        after=st.lists(RESERVED, max_size=4),
        restored=st.none() | st.booleans(),
    )
    def begin_in_the_middle(self, before: list[Any], after: list[Any], restored: bool | None) -> None:
        """Some are served, and for some of them the explorer was restored since."""
        for one in before:
            self.reserve_one(*one)
        self.quiet_time()
        self.back_up()
        for one in after:
            self.reserve_one(*one)
        self.quiet_time()
        self.back_up()
        if restored is not None:
            self.go_back(*self.explorer.copies[0], skips=restored)

    # The explorer and its users

    @rule(several=st.lists(RESERVED, min_size=1, max_size=3))
    def reserve(self, several: list[Any]) -> None:
        for one in several:
            self.reserve_one(*one)

    def reserve_one(self, kind: str, name: str, tid: int) -> None:
        self.explorer.last_id += 1
        members: dict[str, Any] = self.node._common(self.explorer.last_id, tid, {})
        made: Workload
        if kind == "s":
            made = Subdomain(domain=name, ips=("203.0.113.5",), **members)
        elif kind == "d":
            made = DomainDelegate(domain=name, **members)
        elif kind == "p":
            made = Proxy(domain=name, addr="203.0.113.10", port=80, **members)
        else:
            made = UnknownWorkload(workload_type=12, **members)
        self.explorer.workloads[gwid(made)] = made

    @precondition(lambda self: any(one.next_action == 3 for one in self.explorer.workloads.values()))
    @rule(data=st.data(), most=st.integers(1, 4))
    def delete(self, data: st.DataObject, most: int) -> None:
        live = [name for name, one in self.explorer.workloads.items() if one.next_action == NextAction.DEPLOY]
        for name in data.draw(st.permutations(live))[:most]:
            known = self.explorer.workloads[name]
            self.explorer.workloads[name] = msgspec.structs.replace(known, next_action=NextAction.DELETE)

    @rule()
    def back_up(self) -> None:
        self.explorer.copies.append((dict(self.explorer.workloads), self.explorer.last_id))

    @precondition(lambda self: self.explorer.copies)
    @rule(data=st.data(), skips=st.booleans(), quiet=st.booleans())
    def restore(self, data: st.DataObject, skips: bool, quiet: bool) -> None:
        self.go_back(*data.draw(st.sampled_from(self.explorer.copies)), skips=skips)
        if quiet:
            self.quiet_time()

    def go_back(self, workloads: dict[str, Workload], last_id: int, *, skips: bool) -> None:
        """To a copy. skips: no id is given out twice."""
        # Otherwise an answer that waits would reach the wrong reservation, and no gateway can know.
        skips = skips or OUTBOX in self.node.hashes
        self.explorer.workloads = dict(workloads)
        self.explorer.last_id = self.explorer.last_id + 1000 if skips else last_id
        self.stale = True

    # What the process learns

    def start(self) -> None:
        """A process that knows nothing yet."""
        self.node.desired = Desired(self.node.node_id)
        self.late: list[tuple[str, Workload | None, int]] = []
        self.position = 0
        self.listing: dict[str, int] | None = None
        self.shown: dict[str, int] = {}
        """What the last complete listing, and all that came after it, said last."""
        self.stale = True
        """Was the explorer restored, or did it say what is not so, since the listing that is known began?"""
        self.made: Planned | None = None

    @rule()
    def kill(self) -> None:
        self.start()

    @rule(pages=st.integers(0, 3))
    def list_pages(self, pages: int) -> None:
        """Some of a listing, which others may interrupt."""
        if self.listing is None:
            self.begin()
        for _ in range(pages):
            if self.listing is not None:
                self.next_page()

    def begin(self) -> None:
        self.node.desired.begin_listing()
        self.listing, self.position, self.stale = {}, 0, False
        if not self.node.desired.complete:
            self.shown = self.listing  # the pages of the first listing are all that is known

    def next_page(self) -> None:
        items = self.explorer.page(self.position)
        highest = max((one.id for one in items), default=-1)
        for one in items:
            self.node.want(one)
            self.seen(one)
        if highest >= self.position:
            self.position = highest + 1
        elif self.listing is not None:
            self.node.desired.end_listing()
            self.shown, self.listing = self.listing, None

    def seen(self, one: Workload) -> None:
        said = self.shown if self.listing is None else self.listing
        said[gwid(one)] = max(said.get(gwid(one), 0), int(one.next_action))

    def list_all(self) -> None:
        """From its beginning, whatever was begun before."""
        self.begin()
        while self.listing is not None:
            self.next_page()

    @precondition(lambda self: self.listing is None and self.node.desired.complete)
    @rule()
    def poll(self) -> None:
        before = -1
        while before != self.position:
            before = self.position
            self.next_page()

    @precondition(lambda self: self.listing is None and self.node.desired.complete)
    @rule()
    def false_poll(self) -> None:
        """All is deleted, it says; and then never again."""
        for one in self.explorer.workloads.values():
            if one.next_action == NextAction.DEPLOY:
                self.node.want(msgspec.structs.replace(one, next_action=NextAction.DELETE))
                self.shown[gwid(one)] = int(NextAction.DELETE)
        self.stale = True

    @precondition(lambda self: self.node.desired.complete and self.known())
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """A question whose answer comes late."""
        identifier = data.draw(st.sampled_from(self.known()))
        self.late.append((identifier, self.explorer.workloads.get(identifier), self.node.desired.generation))

    def known(self) -> list[str]:
        return sorted({*self.explorer.workloads, *self.node.hashes.get(RESERVATIONS, {})})

    @rule(pages=st.integers(1, 3))
    def list_while_something_is_delivered(self, pages: int) -> None:
        """What the explorer acknowledges while a listing comes in is newer than its pages."""
        self.catch_up()
        self.pass_over()
        self.begin()
        for _ in range(pages):
            if self.listing is not None:
                self.next_page()
        self.deliver_all()
        while self.listing is not None:
            self.next_page()

    @precondition(lambda self: self.late)
    @rule()
    def late_answer(self) -> None:
        identifier, item, generation = self.late.pop(0)
        self.take(identifier, item, generation)

    def take(self, identifier: str, item: Workload | None, generation: int) -> None:
        self.node.desired.answer(identifier, item, generation)
        if item is not None and generation == self.node.desired.generation:
            self.shown[identifier] = max(self.shown.get(identifier, 0), int(item.next_action))

    # What it does

    def ask_for_unlisted(self, desired: Desired) -> None:
        for name in desired.unlisted(self.node.hashes.get(RESERVATIONS, {})):
            item = self.explorer.workloads.get(name)
            if desired is self.node.desired:
                self.take(name, item, desired.generation)
            else:
                desired.answer(name, item, desired.generation)

    def look(self, consent: str = "", released: Iterable[str] = ()) -> Plan:
        return self.planned(consent, released).plan

    def planned(self, consent: str = "", released: Iterable[str] = ()) -> Planned:
        """The plan of a whole pass of the process that runs."""
        before = self.node.policy
        self.node.policy = replace(before, released_reservations=dict.fromkeys(released, "ended"))
        try:
            return self.node.planned(consent)
        finally:
            self.node.policy = before

    @rule(cut=st.none() | st.integers(0, 4), data=st.data(), released=st.booleans())
    def whole_pass(self, cut: int | None, data: st.DataObject, released: bool) -> None:
        """cut: killed after so many steps."""
        recorded = sorted(self.node.hashes.get(RESERVATIONS, {}))
        names = {data.draw(st.sampled_from(recorded))} if released and recorded else set[str]()
        self.pass_over(cut, names)

    def pass_over(self, cut: int | None = None, names: Collection[str] = ()) -> None:
        self.ask_for_unlisted(self.node.desired)
        planned = self.planned(self.consent, names)
        made = planned.plan
        self.note()
        done = made.steps if cut is None else made.steps[:cut]
        self.apply(done, names, made)
        if made.consented and cut is None:
            self.node.samples = ()
            self.note()
            self.consent = ""
        if cut is not None:
            self.start()
            return
        self.node.samples = guard.without(self.node.samples, sum(step.action is Action.RELEASE for step in done))
        self.node.desired.take_fresh()
        self.made = planned

    def note(self) -> None:
        actual, records = self.node.look()
        self.node.samples = guard.noted(self.node.samples, self.node.instant, served(records, actual))

    @precondition(lambda self: self.made is not None and self.made.incremental is not None)
    @rule()
    def news_pass(self) -> None:
        assert self.made is not None
        more = self.node.plan_incremental(self.made)
        if more is None:
            self.made = None
            return
        self.apply(more.steps, (), more)

    def apply(self, steps: Iterable[Step], released: Iterable[str], made: Plan) -> None:
        for step in steps:
            before = set(self.node.hashes.get(RESERVATIONS, {}))
            assert self.node.apply(step.transaction), render.step_line(step)
            for name in before - set(self.node.hashes.get(RESERVATIONS, {})):
                assert name == step.id
                self.justified(step, released, made)

    def justified(self, step: Step, released: Iterable[str], made: Plan) -> None:
        """A reservation ended: who said so?"""
        if step.action is Action.RELEASE:
            assert step.id in released
        elif made.consented and step.id in self.consented:
            pass
        elif step.action is Action.REMOVE:
            assert self.shown.get(step.id) in (NextAction.DELETE, NextAction.DELETED), f"{step}: {self.shown}"
        else:
            assert step.action is Action.REFUSE, render.step_line(step)
            assert self.node.desired.complete

    @rule()
    def quiet_time(self) -> None:
        """Whatever can be done without an operator is done."""
        self.catch_up()
        for _ in range(3):
            self.pass_over()
            self.deliver_all()
        self.pass_over()

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """Some of what waits reaches the explorer, and the process learns that it did."""
        waiting, damaged = results.read_outbox(dict(self.node.hashes.get(OUTBOX, {})))
        assert not damaged
        for one in sorted(waiting, key=lambda one: one.id):
            if data.draw(st.booleans()):
                self.deliver_one(one)

    def deliver_one(self, one: results.OutboxEntry) -> None:
        if one.result is not None:
            self.explorer.put(one.id, one.result)
            self.drop(results.result_field(one.id))
            self.node.desired.acknowledge(one.id, one.result)
        if one.deleted:
            self.explorer.end(one.id)
            self.drop(results.deleted_field(one.id))
            self.node.desired.finish(one.id)

    def drop(self, name: str) -> None:
        fields = self.node.hashes[OUTBOX]
        del fields[name]
        if not fields:
            del self.node.hashes[OUTBOX]

    # The operator, and time

    def fresh_look(self) -> Plan:
        """A dry run by another process."""
        running, self.node.desired = self.node.desired, Desired(self.node.node_id)
        try:
            start = 0
            self.node.desired.begin_listing()
            while True:
                items = self.explorer.page(start)
                highest = max((one.id for one in items), default=-1)
                for one in items:
                    self.node.want(one)
                if highest < start:
                    break
                start = highest + 1
            self.node.desired.end_listing()
            self.ask_for_unlisted_of_another(self.node.desired)
            return self.look()
        finally:
            self.node.desired = running

    def ask_for_unlisted_of_another(self, desired: Desired) -> None:
        for name in desired.unlisted(self.node.hashes.get(RESERVATIONS, {})):
            desired.answer(name, self.explorer.workloads.get(name), desired.generation)

    @rule()
    def allow_removals(self) -> None:
        made = self.fresh_look()
        self.consent, self.consented = made.held_digest, made.needs_consent()

    @rule(minutes=st.sampled_from((1, 20, 90)))
    def time_goes_by(self, minutes: int) -> None:
        self.node.now += minutes * 60 * SECOND

    # What holds

    @invariant()
    def both_agree(self) -> None:
        """The process that runs, once it has asked for news, plans what one would that has just been started."""
        kept = dict(vars(self))
        running = self.node.desired
        self.node.desired = copied(running)
        self.shown = dict(self.shown)
        self.listing = None if self.listing is None else dict(self.listing)
        try:
            self.catch_up()
            self.ask_for_unlisted(self.node.desired)
            assert outline(self.look()) == outline(self.fresh_look())
        finally:
            vars(self).update(kept)
            self.node.desired = running

    def catch_up(self) -> None:
        """Until it knows what the explorer says."""
        if self.stale or not self.node.desired.complete:
            self.list_all()
        elif self.listing is None:
            self.poll()
        while self.listing is not None:
            self.next_page()

    @precondition(lambda self: self.listing is None and self.made is not None and not self.stale)
    @rule()
    def news_leave_nothing_to_a_whole_look(self) -> None:
        self.poll()
        assert self.made is not None
        if self.made.incremental is None:
            return
        self.news_pass()
        if self.made is not None:
            assert self.look().steps == ()

    @invariant()
    def every_record_can_be_read(self) -> None:
        assert not self.node.look()[1].damaged

    def teardown(self) -> None:
        """The explorer is listed, everything is delivered and consented to."""
        for _ in range(12):
            self.list_all()
            self.ask_for_unlisted(self.node.desired)
            made = self.look()
            if digest := made.held_digest:
                made = self.look(digest)
                self.consented = self.look().needs_consent()
            self.apply(made.steps, (), made)
            idle = not made.steps and OUTBOX not in self.node.hashes
            self.node.samples = ()
            self.deliver_all()
            if idle:
                break
        else:
            raise AssertionError(f"does not settle:\n{render.as_text(made)}")
        wanted = [one for one in self.explorer.workloads.values() if one.next_action in LIVE]
        assert {one.next_action for one in wanted} <= {NextAction.DEPLOY}
        other = Node("gw1.example", parent_timeout=ENDLESS)
        other.relist(*wanted)
        other.settle()
        assert rows(self.node, wanted) == rows(other, wanted)

    def deliver_all(self) -> None:
        waiting, damaged = results.read_outbox(dict(self.node.hashes.get(OUTBOX, {})))
        assert not damaged
        for one in sorted(waiting, key=lambda one: one.id):
            self.deliver_one(one)


def copied(desired: Desired) -> Desired:
    """The same knowledge; what the copy learns is not the other's."""
    another = copy.copy(desired)
    for name, value in vars(desired).items():
        if isinstance(value, dict | set):
            setattr(another, name, value.copy())
    return another


def outline(made: Plan) -> Any:
    """What is done, held and shown, without the bytes."""
    lists = (made.steps, made.held_steps, made.orphans)
    steps = [[(step.action, step.id, step.domain, step.message) for step in some] for some in lists]
    return steps, render.held_reason(made.held)


def rows(node: Node, workloads: Iterable[Workload]) -> dict[str, Any]:
    """What is served and to whom, and what is recorded.

    What waits for a zone keeps its record and its name, which it has not yet with a gateway that begins anew.
    """
    waiting = set(node.hashes.get(WAITING, {}))
    domains = {getattr(one, "domain", "") for one in workloads if gwid(one) in waiting}
    found: dict[str, Any] = {**node.hashes, **node.strings}
    found = {key: value for key, value in found.items() if not key.startswith("tfgateway:")}
    names = node.hashes.get(MANAGED_DOMAINS, {})
    found[MANAGED_DOMAINS] = {name: tid for name, tid in names.items() if name not in domains}
    found[RESERVATIONS] = set(node.hashes.get(RESERVATIONS, {})) - waiting
    return found


TestHistories = Histories.TestCase
TestHistories.settings = settings(deadline=None, stateful_step_count=25)
