"""What DNS proves for each proxy, since when, and when an unproved one ends (pure).

It is kept in the hash ``tfgateway:proofs``, so the time runs on across restarts; a DNS failure changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from tfgateway.ids import Gwid
from tfgateway.instant import Instant
from tfgateway.net.addresses import IPAddress
from tfgateway.reconciler.planning.inputs.rows import Rows
from tfgateway.reconciler.planning.waiting import Wait
from tfgateway.redis_schema.keys import PROOFS


class Proof(StrEnum):
    """What proves a claim."""

    NONE = "none"
    ADDRESS = "address"
    """The domain leads to this gateway, which does not say for which of its users."""
    TXT = "txt"
    """A record names this user and this gateway."""

    @property
    def strength(self) -> int:
        """A claim with a higher one displaces one with a lower one."""
        return _STRENGTH[self]


_STRENGTH = {Proof.NONE: 0, Proof.ADDRESS: 1, Proof.TXT: 2}


class NameFacts(NamedTuple):
    """What DNS says about a domain."""

    addresses: frozenset[IPAddress] = frozenset()
    aliases: frozenset[str] = frozenset()
    """Names that its CNAME records lead to, lower case, without a final dot."""
    tokens: frozenset[str] = frozenset()
    """See ``identity.proof_token``."""
    complete: bool = False
    """Whether DNS answered every query; only then does a missing record count as absent."""


class ProofRow(Wait, frozen=True):
    """A value of ``tfgateway:proofs``: what proves a claim, and since when."""

    by: Proof = Proof.NONE


class ProofStatus(NamedTuple):
    """What proves a claim, for people and programs. Times in Unix seconds; 0: none."""

    by: Proof | None
    """None: DNS was not asked yet."""
    since: int
    ends: int
    """When it ends unless it is proved before."""
    words: str

    @property
    def proved(self) -> bool:
        return self.by not in (None, Proof.NONE)

    def as_data(self) -> dict[str, object]:
        """Plain values, as ``tfgateway state --json`` shows them."""
        return {"by": None if self.by is None else str(self.by), "since": self.since, "ends": self.ends}


class Proofs:
    """The hash ``tfgateway:proofs`` on top of ``rows``. timeout: seconds without proof after which a claim ends.

    The timeout runs from the first answer of DNS without a proof. Only another such answer, after it, ends the claim.
    """

    def __init__(self, rows: Rows, timeout: float) -> None:
        self._rows = rows
        self._timeout = timeout
        decoded = {Gwid(name): _decode(raw) for name, raw in rows.fields(PROOFS)}
        self._known = {identifier: row for identifier, row in decoded.items() if row is not None}
        self._written = set(decoded)
        """Reservations that a row was written of, readable or not, by this or an earlier plan."""

    @property
    def known(self) -> Mapping[Gwid, ProofRow]:
        """By reservation; it changes with the plan."""
        return self._known

    def names(self) -> list[Gwid]:
        """All reservations that there is a row of, readable or not."""
        return [Gwid(name) for name, _ in self._rows.fields(PROOFS)]

    def current(self, identifier: Gwid, proof: Proof, *, complete: bool) -> Proof:
        """What proves a claim, by what DNS says now (``complete``: all of it), or else by what it has said last."""
        row = self._known.get(identifier)
        return proof if complete or row is None else max(proof, row.by, key=lambda one: one.strength)

    def record(self, identifier: Gwid, proof: Proof, now: Instant, *, complete: bool) -> None:
        """Write what proves a claim when that has changed."""
        row = self._known.get(identifier)
        proof = self.current(identifier, proof, complete=complete)
        if (row is None and proof is Proof.NONE and not complete) or (row is not None and row.by is proof):
            return
        self._known[identifier] = row = ProofRow(int(now.unix), now.boot, now.uptime, proof)
        self._written.add(identifier)
        self._rows.put(PROOFS, identifier, msgspec.json.encode(row))

    def is_expired(self, identifier: Gwid, now: Instant, *, complete: bool) -> bool:
        """Whether a claim has had no proof for long enough."""
        row = self._known.get(identifier)
        return complete and row is not None and row.by is Proof.NONE and row.age(now) >= self._timeout

    def forget(self, identifier: Gwid) -> None:
        """Forget a claim."""
        self._known.pop(identifier, None)
        if identifier in self._written:  # of most there is none: a pass forgets all that need no proof
            self._rows.put(PROOFS, identifier, None)

    def status(self, identifier: Gwid) -> ProofStatus:
        """What is known of a claim."""
        row = self._known.get(identifier)
        if row is None:
            return ProofStatus(None, 0, 0, "DNS was not asked yet for a proof")
        if row.by is not Proof.NONE:
            return ProofStatus(
                row.by, row.since, 0, f"proved by {'a TXT record' if row.by is Proof.TXT else 'its address'}"
            )
        ends = int(row.since + self._timeout)
        try:
            words = f"not proved: it ends after {datetime.fromtimestamp(ends, UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (OverflowError, ValueError, OSError):
            words = "not proved"
        return ProofStatus(row.by, row.since, ends, words)


def proof_by(facts: NameFacts, token: str | None, names: frozenset[str], addresses: frozenset[IPAddress]) -> Proof:
    """What DNS proves for a user with this token (None: it is not known) at the gateway with these names, addresses."""
    if token is not None and token in facts.tokens:
        return Proof.TXT
    leads_here = not facts.aliases.isdisjoint(names) or not facts.addresses.isdisjoint(addresses)
    return Proof.ADDRESS if leads_here else Proof.NONE


def _decode(raw: bytes) -> ProofRow | None:
    try:
        return msgspec.json.decode(raw, type=ProofRow)
    except msgspec.MsgspecError:
        return None
