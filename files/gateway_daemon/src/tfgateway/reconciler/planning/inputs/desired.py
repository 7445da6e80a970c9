"""The desired state: what the explorer wants of this gateway, from its pages and answers so far (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from tfgateway.explorer.models import (
    Approval,
    NextAction,
    Result,
    ResultState,
    SigningRequest,
    Undecodable,
    Workload,
    gwid,
)
from tfgateway.explorer.wire import RawJson
from tfgateway.ids import Gwid, NodeId
from tfgateway.reconciler.planning.inputs.reservation import order

WANTED = frozenset({NextAction.CREATE, NextAction.DEPLOY})
"""What the explorer says of a reservation that is to be served."""
_NO_SIGNERS, _NO_APPROVAL, _NO_RESULT, _NULL = SigningRequest(), Approval(), Result(), RawJson(b"null")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A reservation as the explorer describes it."""

    workload: Workload | Undecodable
    next_action: int
    result: Result | None = None
    """The answer that the explorer has; None: none yet."""


# Within a generation, the state of a workload only advances.
_PROGRESS: dict[int, int] = {
    NextAction.CREATE: 0,
    NextAction.SIGN: 1,
    NextAction.PAY: 2,
    NextAction.DEPLOY: 3,
    NextAction.DELETE: 4,
    NextAction.INVALID: 5,
    NextAction.MIGRATED: 5,
    NextAction.DELETED: 6,
}
_UNKNOWN_PROGRESS = 5


_DELETED = Result(state=ResultState.DELETED)
_MOST_TEXTS = 10_000
_UNUSED: dict[str, Any] = {
    "description": "",
    "signing_request_provision": _NO_SIGNERS,
    "signing_request_delete": _NO_SIGNERS,
    "json": "",
    "signatures_provision": (),
    "signature_farmer": _NO_APPROVAL,
    "signatures_delete": (),
    "metadata": "",
    "result": _NO_RESULT,
}
"""Members of a workload that are not used here; of a hundred thousand they are a hundred megabytes."""


class Desired:
    """What the explorer wants of this gateway, in generations: a complete listing replaces all that was known.

    The pages of a listing are put together apart, and take effect when the last of them has come, so that a gateway
    follows an explorer that was restored from a backup. Newer than a listing is only what the explorer acknowledged
    to us while it came in. Within a generation a workload only goes forward (deploy, delete, deleted): a copy from a
    queue, or an answer that is late, does not undo what is known.

    Before the first listing came to its end, its pages are all that is known. Only a complete one gives the absence of
    a reservation a meaning, and even then only that it has to be asked for by itself.
    """

    def __init__(self, node_id: NodeId) -> None:
        self._node_id = node_id
        self._wanted: dict[Gwid, Wanted] = {}
        self._incoming: dict[Gwid, Wanted] | None = None
        """What the listing that is coming in has shown so far; None: there is none."""
        self._acknowledged: dict[Gwid, Result] = {}
        """Since that listing began: our results, and those that say that a reservation is deleted."""
        self._texts: dict[str, str] = {}
        """Texts that many answers have in common, kept once."""
        self.generation = 0
        """How many listings came to their end."""
        self.unknown: set[Gwid] = set()
        """Asked for one by one in this generation, and the explorer does not know them."""
        self.changes = 0
        """Grows with everything that the explorer says and that was not known."""
        self._fresh: set[Gwid] | None = None

    @property
    def complete(self) -> bool:
        """Whether a listing was completed."""
        return self.generation > 0

    def get(self, identifier: Gwid) -> Wanted | None:
        return self._wanted.get(identifier)

    def items(self) -> list[tuple[Gwid, Wanted]]:
        """All reservations by ascending id (P-8)."""
        return sorted(self._wanted.items(), key=lambda item: order(item[0]))

    def referring(self) -> list[tuple[Gwid, Workload]]:
        """Reservations that replace an older one, by ascending id."""
        found = [(name, wanted.workload) for name, wanted in self._wanted.items()]
        return sorted(
            ((name, work) for name, work in found if isinstance(work, Workload) and work.reference),
            key=lambda item: order(item[0]),
        )

    def begin_listing(self) -> None:
        """Begin a listing from 0; an unfinished one is discarded."""
        if not self.complete:
            self._wanted = {}
        self._incoming = {} if self.complete else self._wanted
        self._acknowledged = {}

    def end_listing(self) -> None:
        """Complete the listing: what it showed is what is wanted."""
        if self._incoming is None:
            return
        self._wanted, self._incoming = self._incoming, None
        for identifier, result in self._acknowledged.items():
            self._note_result(identifier, result)
        self._acknowledged = {}
        self.generation += 1
        self.unknown.clear()
        self._fresh = None

    def take_fresh(self) -> set[Gwid] | None:
        """What the explorer changed since the last call; None: a listing ended, so that anything may have changed."""
        fresh, self._fresh = self._fresh, set()
        return fresh

    def merge(self, item: Workload | Undecodable) -> bool:
        """Take in one item of a page; False: it is not for this gateway, or has no id."""
        taken = self._read(item)
        if taken is None:
            return False
        if self._incoming is None:
            self._put(*taken)
        else:
            self._show(self._incoming, *taken)
        return True

    def answer(self, identifier: Gwid, item: Workload | None, generation: int) -> None:
        """Take in the answer for a single reservation; None: the explorer does not know it.

        generation: when it was asked. A later listing has said it better.
        """
        if generation != self.generation:
            return
        taken = self._read(item) if item is not None else None
        if taken is None or taken[0] != identifier:
            self.unknown.add(identifier)
        else:
            self._put(*taken)

    def acknowledge(self, identifier: Gwid, result: Result) -> None:
        """Note that the explorer has this result."""
        self._note_result(identifier, result)
        if self._incoming is not None:
            self._acknowledged[identifier] = result

    def finish(self, identifier: Gwid) -> None:
        """Note that the explorer has acknowledged the deletion."""
        self.acknowledge(identifier, _DELETED)

    def _note_result(self, identifier: Gwid, result: Result) -> None:
        wanted = self._wanted.get(identifier)
        if wanted is None:
            return
        if result is _DELETED:
            self._wanted[identifier] = Wanted(wanted.workload, NextAction.DELETED, wanted.result)
        else:
            self._wanted[identifier] = Wanted(wanted.workload, wanted.next_action, self._slim(identifier, result))

    def _read(self, item: Workload | Undecodable) -> tuple[Gwid, Wanted] | None:
        if isinstance(item, Undecodable):
            return None if item.gwid is None else (item.gwid, Wanted(item, NextAction.DEPLOY))
        if item.node_id != self._node_id:
            return None
        identifier = gwid(item)
        result = None if item.result.empty else self._slim(identifier, item.result)
        slim = msgspec.structs.replace(item, **_UNUSED, node_id=self._node_id)
        return identifier, Wanted(slim, item.next_action, result)

    def _slim(self, identifier: Gwid, result: Result) -> Result:
        """The same in less memory: equal parts of many reservations are shared."""
        if len(self._texts) >= _MOST_TEXTS:
            self._texts.clear()
        share = self._texts.setdefault
        return msgspec.structs.replace(
            result,
            workload_id=identifier,
            signature=share(result.signature, result.signature),
            message=share(result.message, result.message),
            data_json=_NULL if result.data_json == _NULL else result.data_json,
            epoch=0,
            node_id="",
        )

    def unlisted(self, recorded: Iterable[Gwid]) -> list[Gwid]:
        """Recorded reservations that a complete listing did not show, by ascending id: each has to be asked for."""
        if not self.complete:
            return []
        return sorted((name for name in recorded if name not in self._wanted and name not in self.unknown), key=order)

    def _put(self, identifier: Gwid, wanted: Wanted) -> None:
        self.unknown.discard(identifier)
        if self._show(self._wanted, identifier, wanted):
            self.changes += 1
            if self._fresh is not None:
                self._fresh.add(identifier)

    def _show(self, shown: dict[Gwid, Wanted], identifier: Gwid, wanted: Wanted) -> bool:
        """Add or replace a reservation; whether that changes anything."""
        known = shown.get(identifier)
        if known is None:
            # Most reservations are unchanged: both generations share the object, to save memory.
            before = self._wanted.get(identifier)
            shown[identifier] = before if before is not None and before == wanted else wanted
        elif known == wanted or _progress(wanted) < _progress(known):
            return False
        else:
            shown[identifier] = wanted
        return True


def _progress(wanted: Wanted) -> int:
    # An item that cannot be decoded says nothing about what came before it.
    if isinstance(wanted.workload, Undecodable):
        return -1
    return _PROGRESS.get(wanted.next_action, _UNKNOWN_PROGRESS)
