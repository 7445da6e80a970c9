"""A plan: the steps that lead from what is to what should be, and what was left out of it. Pure data.

A step is one reservation and one transaction: its rows, its record and its answer to the explorer belong together
(P-25). What a plan looks like to people and programs is the business of ``render``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tfgateway.ids import NO_GWID, Gwid, Tid
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.reconciler.planning.inputs.rows import Transaction
from tfgateway.reconciler.planning.proofs import ProofRow
from tfgateway.telemetry.text import printable


class Action(StrEnum):
    """What a step does."""

    CLAIM = "claim"
    """A managed domain becomes, or stays, the gateway's."""
    RELEASE = "release"
    """A domain that is not managed any more becomes nobody's (P-19), or a reservation ends: an operator said so."""
    REMOVE = "remove"
    """A reservation ends, and that is reported to the explorer, unless it does not know the reservation."""
    DEPLOY = "deploy"
    """A new reservation, one whose record was lost, or one whose parent zone is there again."""
    WAIT = "wait"
    """A reservation begins to wait for its parent zone."""
    REFUSE = "refuse"
    """An error result, then the deletion is reported: the explorer keeps the message."""
    REPAIR = "repair"
    """Rows or record of a deployed reservation differ from what they should be."""
    REPORT = "report"
    """The explorer does not have our answer."""
    PROOF = "proof"
    """What DNS proves for a proxy outside all zones has changed."""
    SWEEP = "sweep"
    """A claim to a name, or a wait, that nothing stands behind any more (P-12)."""
    CLEAN = "clean"
    """Something that is served, but that nobody reserved (P-5), where the settings allow to remove it."""


@dataclass(frozen=True, slots=True)
class Step:
    """A transaction, and the reason for it."""

    action: Action
    transaction: Transaction
    id: Gwid = NO_GWID
    type: str = ""
    domain: str = ""
    user: str = ""
    message: str = ""

    @property
    def name(self) -> str:
        """The reservation or domain that it is about."""
        return self.id or printable(self.domain)


@dataclass(frozen=True, slots=True)
class Left:
    """The recorded reservations once a plan is applied."""

    recorded: Mapping[Gwid, Reservation] = field(default_factory=dict)
    damaged: Mapping[Gwid, str] = field(default_factory=dict)
    """Records that cannot be read, and why."""
    undecided: frozenset[str] = frozenset()
    """Reservations and domains that wait for something else to be corrected."""
    waiting: frozenset[Gwid] = frozenset()
    """Reservations, recorded or not, that wait for their parent zone."""
    proofs: Mapping[Gwid, ProofRow] = field(default_factory=dict)
    """Proxies outside all zones that were looked up, and what DNS proves."""


@dataclass(frozen=True, slots=True)
class HeldRemovals:
    """Why a plan was refused: removals that are too many without an operator's consent, which it leaves out."""

    steps: tuple[Step, ...]
    recorded: int
    """Reservations that are recorded now."""
    gone: int
    """Reservations that ended within the last hour."""
    allowed: int
    """Removals within the hour that need no consent."""

    @property
    def unowned(self) -> int:
        """How many of the removals are of rows that nobody reserved."""
        return sum(step.action is Action.CLEAN for step in self.steps)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps to carry out, and what cannot be done."""

    steps: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()
    """One line each, for the operator; nothing in a plan depends on them."""
    held: HeldRemovals | None = None
    """None: no removal was left out."""
    orphans: tuple[Step, ...] = ()
    """How reservations would end that the explorer does not know any more, with what ends when they do: never without
    an operator's consent."""
    consented: bool = False
    """Whether it has removals that an operator allowed."""
    left: Left = field(default_factory=Left, repr=False, compare=False)
    unknown_users: tuple[Tid, ...] = ()
    """Users whose public key would have been needed; what waits for it is a problem."""
    unknown_delegations: tuple[str, ...] = ()
    """Domains whose NS records in the parent zone would have been needed; what waits for them is a problem."""
    unknown_names: tuple[str, ...] = ()
    """Domains that would have to be looked up for a proof; what waits for that is a problem."""
    due_names: tuple[str, ...] = ()
    """Domains of proxies that have to be looked up again; nothing waits for that."""

    @property
    def held_steps(self) -> tuple[Step, ...]:
        """The removals that were left out."""
        return self.held.steps if self.held is not None else ()

    @property
    def held_digest(self) -> str:
        """Digest by which an operator allows exactly ``held_steps`` and ``orphans``; empty: there are none."""
        return digest((*self.held_steps, *self.orphans))

    def needs_consent(self) -> frozenset[str]:
        """Names of what is not removed without an operator's consent."""
        return frozenset(step.name for step in (*self.held_steps, *self.orphans))

    def summary(self) -> dict[str, int]:
        """Number of steps by action."""
        return dict(Counter(str(step.action) for step in self.steps))


def digest(steps: Iterable[Step]) -> str:
    """A digest of exactly these steps, in any order; empty: there are none."""
    names = sorted(step.name for step in steps)
    return hashlib.sha256("\n".join(names).encode()).hexdigest() if names else ""
