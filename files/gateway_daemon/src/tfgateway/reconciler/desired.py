"""What the explorer wants of this gateway (pure), as its pages and answers said so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from tfgateway.explorer.models import (
    Approval,
    NextAction,
    Result,
    SigningRequest,
    Undecodable,
    Workload,
    gwid,
)
from tfgateway.explorer.wire import RawJson
from tfgateway.reconciler.reservation import order

WANTED = frozenset({NextAction.CREATE, NextAction.DEPLOY})
"""What the explorer says of a reservation that is to be served."""
_NO_SIGNERS, _NO_APPROVAL, _NO_RESULT, _NULL = SigningRequest(), Approval(), Result(), RawJson(b"null")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the explorer says about one reservation."""

    workload: Workload | Undecodable
    next_action: int
    result: Result | None = None
    """The answer that the explorer has; None: none yet."""


# A workload never goes back: what arrives late (from a queue, a slow answer) must not undo what is known.
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
"""Members of a workload that nobody looks at here; of a hundred thousand they are a hundred megabytes."""


class Desired:
    """Everything that the explorer told about this gateway, kept up to date by pages of a poll.

    A listing (all pages from id 0) tells more than a page: only when it came to its end does the absence of a
    reservation mean something, and even then only that it has to be asked for by itself.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._wanted: dict[str, Wanted] = {}
        self._texts: dict[str, str] = {}
        """Texts that many answers have in common, held once."""
        self._seen: set[str] | None = None
        self.complete = False
        """True once a listing came to its end."""
        self.unknown: set[str] = set()
        """Asked for one by one, and the explorer has never heard of them."""
        self.news = 0
        """Grows with everything that the explorer tells and that was not known."""
        self._fresh: set[str] | None = None

    def get(self, identifier: str) -> Wanted | None:
        return self._wanted.get(identifier)

    def items(self) -> list[tuple[str, Wanted]]:
        """All by ascending id (P-8)."""
        return sorted(self._wanted.items(), key=lambda item: order(item[0]))

    def referring(self) -> list[tuple[str, Workload]]:
        """Those that name an older reservation which they replace, by ascending id."""
        found = [(name, wanted.workload) for name, wanted in self._wanted.items()]
        return sorted(
            ((name, work) for name, work in found if isinstance(work, Workload) and work.reference),
            key=lambda item: order(item[0]),
        )

    def begin_listing(self) -> None:
        """The pages that follow are a listing from 0; one that was begun before counts for nothing."""
        self._seen = set()
        # What the explorer tells from here on is newer than any deletion it has acknowledged.
        self._wanted = {
            name: wanted for name, wanted in self._wanted.items() if wanted.next_action != NextAction.DELETED
        }

    def end_listing(self) -> None:
        """The listing came to its end: what it did not show is unknown again, deleted ones included."""
        if self._seen is not None:
            self._wanted = {name: wanted for name, wanted in self._wanted.items() if name in self._seen}
            self._seen = None
            self.complete = True
            self.unknown.clear()
            self._fresh = None

    def take_fresh(self) -> set[str] | None:
        """What the explorer told since the last call; None: a listing ended, so that anything may have changed."""
        fresh, self._fresh = self._fresh, set()
        return fresh

    def merge(self, item: Workload | Undecodable) -> bool:
        """Take in one item of a page or a single answer; False: it is not for this gateway, or has no id."""
        if isinstance(item, Undecodable):
            if item.gwid is None:
                return False
            self._put(item.gwid, Wanted(item, NextAction.DEPLOY))
            return True
        if item.node_id != self._node_id:
            return False
        identifier = gwid(item)
        result = None if item.result.empty else self._slim(identifier, item.result)
        slim = msgspec.structs.replace(item, **_UNUSED, node_id=self._node_id)
        self._put(identifier, Wanted(slim, item.next_action, result))
        return True

    def acknowledge(self, identifier: str, result: Result) -> None:
        """The explorer has this result now."""
        if wanted := self._wanted.get(identifier):
            self._wanted[identifier] = Wanted(wanted.workload, wanted.next_action, self._slim(identifier, result))

    def _slim(self, identifier: str, result: Result) -> Result:
        """The same with as little of its own as possible: all who succeed have the same signature."""
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

    def finish(self, identifier: str) -> None:
        """The explorer has acknowledged the deletion: later news of it are old news until the next listing."""
        if wanted := self._wanted.get(identifier):
            self._wanted[identifier] = Wanted(wanted.workload, NextAction.DELETED, wanted.result)

    def unlisted(self, recorded: Iterable[str]) -> list[str]:
        """Recorded ones that a complete listing did not show: each has to be asked for, by ascending id."""
        if not self.complete:
            return []
        return sorted((name for name in recorded if name not in self._wanted and name not in self.unknown), key=order)

    def _put(self, identifier: str, wanted: Wanted) -> None:
        if self._seen is not None:
            self._seen.add(identifier)
        known = self._wanted.get(identifier)
        if known is None or (known != wanted and _progress(wanted) >= _progress(known)):
            self._wanted[identifier] = wanted
            self.news += 1
            if self._fresh is not None:
                self._fresh.add(identifier)


def _progress(wanted: Wanted) -> int:
    # An item that cannot be decoded says nothing about what came before it.
    if isinstance(wanted.workload, Undecodable):
        return -1
    return _PROGRESS.get(wanted.next_action, _UNKNOWN_PROGRESS)
