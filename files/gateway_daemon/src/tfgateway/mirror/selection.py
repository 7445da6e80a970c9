"""Which keys a mirror copies. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["hash", "string"]
"""How redis holds a value."""

# As redis' stringmatchlen reads them: a class may lack its end, "\\" escapes, a range's end may be any byte.
_PIECE = re.compile(rb"\\(.)|\[(\^?)((?:\\.|[^\]]-.|[^\]])*)\]?|(\*+)|(\?)|(.)", re.DOTALL)
_MEMBER = re.compile(rb"\\(.)|(.)-(.)|(.)", re.DOTALL)


def _anything(_key: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Selection:
    """The keys that match ``match`` and that ``accept`` lets through, read as values of ``kind``."""

    match: bytes
    """Glob as redis understands it (SCAN MATCH). ASCII: beyond it redis' ranges differ from machine to machine."""
    accept: Callable[[bytes], bool] = _anything
    """Asked for every matching key name; must be quick and must not raise."""
    kind: Kind = "hash"
    """A selected key of another type is treated as absent."""
    first: tuple[bytes, ...] = ()
    """Keys that are selected besides, and that are passed on before the others."""
    _pattern: re.Pattern[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", re.compile(_translate(self.match), re.DOTALL))

    def wants(self, key: bytes) -> bool:
        """Whether this key belongs to the copy."""
        return key in self.first or (self._pattern.fullmatch(key) is not None and self.accept(key))

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """Literal prefixes that cover all selected keys: redis is asked to announce changes of these.

        None is the beginning of another, which redis would refuse.
        """
        literal = re.match(rb"[^*?\[\\]*", self.match)
        found = {literal[0] if literal else b"", *self.first}
        return tuple(sorted(one for one in found if not any(one != other and one.startswith(other) for other in found)))


def _translate(glob: bytes) -> bytes:
    """A redis glob as a regular expression: ``*``, ``?``, ``[a-z]``, ``[^a]`` and backslash escapes."""
    parts = []
    for piece in _PIECE.finditer(glob):
        escaped, negated, members, many, one, literal = piece.groups()
        if many:
            parts.append(b".*")
        elif one:
            parts.append(b".")
        elif members is not None:
            parts.append(_character_class(members, negated=bool(negated)))
        else:
            parts.append(re.escape(escaped if escaped is not None else literal))
    return b"".join(parts)


def _character_class(members: bytes, *, negated: bool) -> bytes:
    allowed: set[int] = set()
    for member in _MEMBER.finditer(members):
        escaped, first, last, single = member.groups()
        low, high = sorted(((escaped or single or first)[0], (escaped or single or last)[0]))
        allowed.update(range(low, high + 1))
    if negated:
        allowed = set(range(256)) - allowed
    # A look-ahead that always fails stands for the empty class, which re cannot write.
    return b"[" + b"".join(b"\\x%02x" % value for value in sorted(allowed)) + b"]" if allowed else b"(?!)"
