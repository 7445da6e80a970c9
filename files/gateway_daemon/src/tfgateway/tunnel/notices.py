"""What a gateway says to its client on the stream of the registration: an object of JSON a line. Sans-IO.

Only to clients that ask for it (``Extension.NOTICES``): the others get the end of the stream when they are registered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from tfgateway.errors import ParseError

_LONGEST = 1024
"""Bytes of a line."""


class Outcome(StrEnum):
    """What has become of a client."""

    REGISTERED = "registered"
    """Visitors can come."""
    UNKNOWN = "unknown"
    """No service has its secret: it is held for a while, unless the session ends with this."""
    REVOKED = "revoked"
    """The last service with its secret is gone."""
    REPLACED = "replaced"
    """A newer client has its secret."""
    CROWDED = "crowded"
    """There are too many clients with its secret, or with unknown ones."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One line."""

    outcome: Outcome
    source: str = ""
    """With ``REPLACED``: the IP literal of the newer client."""

    @property
    def reason(self) -> str:
        """For people."""
        return _REASONS[self.outcome] + (f": from {self.source}" if self.source else "")


_REASONS = {
    Outcome.REGISTERED: "registered",
    Outcome.UNKNOWN: "no service of the gateway has this secret",
    Outcome.REVOKED: "the secret was revoked",
    Outcome.REPLACED: "another client has registered with this secret",
    Outcome.CROWDED: "the gateway has too many clients with this secret, or with unknown ones",
}


def encode_notice(notice: Notice) -> bytes:
    """One line."""
    said = {"outcome": notice.outcome} | ({"source": notice.source} if notice.source else {})
    return json.dumps(said).encode() + b"\n"


class NoticeParser:
    """Finds notices, in any number of pieces. Of a newer gateway, those that are not known here are skipped."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Notice]:
        """Take the next bytes. Errors: ``ParseError``."""
        self._received += data
        *lines, rest = self._received.split(b"\n")
        if len(rest) > _LONGEST or any(len(line) > _LONGEST for line in lines):
            raise ParseError("notice: a line is too long")
        self._received = rest
        return [notice for line in lines if (notice := _decode(line)) is not None]


def _decode(line: bytes | bytearray) -> Notice | None:
    try:
        said = json.loads(line)
    except ValueError as error:  # UnicodeDecodeError is one
        raise ParseError("notice: not JSON") from error
    except RecursionError as error:
        raise ParseError("notice: nested too deeply") from error
    if not isinstance(said, dict):
        raise ParseError("notice: not an object")
    outcome, source = said.get("outcome"), said.get("source", "")
    if not isinstance(outcome, str) or outcome not in set(Outcome) or not isinstance(source, str):
        return None
    return Notice(Outcome(outcome), source)
