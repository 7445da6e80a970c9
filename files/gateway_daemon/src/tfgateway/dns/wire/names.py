r"""Domain names in wire form: length-prefixed labels, ended by the empty label (RFC 1035 §3.1). Pure.

A name is bytes such as ``b"\x03www\x07example\x00"``. Length bytes (0..63) are no letters, so that
``bytes.lower`` folds the case of a whole name (A-Z only, RFC 4343), and cutting off the first label is a slice.
"""

from __future__ import annotations

import re
from typing import Final, NewType

from tfgateway.errors import ParseError

WireName = NewType("WireName", bytes)
"""A name in wire form, its case as it was sent or stored."""
Name = NewType("Name", WireName)
"""A folded one: names are compared and looked up in this form only."""

NONE: Final = Name(WireName(b""))
"""Stands where there is no name."""
ROOT: Final = Name(WireName(b"\0"))
WILDCARD: Final = b"\x01*"
"""The label of a wildcard; in front of a name it makes the source of synthesis below it (RFC 4592 §2.1.1)."""
MAX_NAME: Final = 255
MAX_LABEL: Final = 63

# Printable ASCII without capitals and backslash: reads back as written.
_PLAIN = re.compile(rb"[!-@\[\]-~]+")
_LABEL = re.compile(rb"[a-z0-9_-]{1,63}")
_LENGTHS: Final = [bytes([length]) for length in range(MAX_LABEL + 1)]
_UNREACHABLE: Final = "not the lower-case text of a name: no query asks for it"
_ESCAPED = re.compile(rb"\\(?:(\d{3})|(\D))|([^\\])", re.DOTALL)


def fold(name: bytes) -> Name:
    """The name as it is compared (RFC 4343)."""
    return name.lower()  # type: ignore[return-value]  # to call a NewType takes time


def parent(name: Name) -> Name:
    """The name without its first label. Not for the root."""
    return name[name[0] + 1 :]  # type: ignore[return-value]  # to call a NewType takes time


def wildcard(name: Name) -> Name:
    """The source of synthesis below a name."""
    return WILDCARD + name  # type: ignore[return-value]  # to call a NewType takes time


def is_within(name: Name, ancestor: Name) -> bool:
    """Is ``name`` equal to ``ancestor`` or below it?"""
    excess = len(name) - len(ancestor)
    if excess < 0 or not name.endswith(ancestor):
        return False
    at = 0
    while at < excess:
        at += name[at] + 1
    return at == excess


def from_text(text: bytes) -> WireName:
    r"""An absolute name (final dot required, ``.`` is the root) from its text; ``\.`` and ``\DDD`` as in RFC 1035 §5.1.

    Case is kept. Errors: ``ParseError``.
    """
    if text == b".":
        return ROOT
    labels = _split(text)
    if labels.pop():
        raise ParseError("name without final dot")
    return WireName(_joined(labels, ROOT))


def from_key(text: bytes) -> Name:
    """The folded absolute name whose text is part of a redis key. Errors: ``ParseError``.

    The old server looks names up by the text of the lower-cased query name, so that only the one canonical text of
    a name can be reached; other ways to write it are errors.
    """
    name = from_text(text)
    if not _PLAIN.fullmatch(text) and to_text(fold(name)) != text:
        raise ParseError(_UNREACHABLE)
    return Name(name)


def from_field(text: bytes, zone: Name) -> Name:
    """The folded name of a field (relative text) in the hash of ``zone``. Errors: ``ParseError``, see ``from_key``."""
    if _LABEL.fullmatch(text) and len(text) + len(zone) < MAX_NAME:
        return _LENGTHS[len(text)] + text + zone  # type: ignore[return-value]  # to call a NewType takes time
    labels = _split(text)
    if not _PLAIN.fullmatch(text) and to_text(fold(_joined(labels, ROOT))) != text + b".":
        raise ParseError(_UNREACHABLE)
    return Name(WireName(_joined(labels, zone)))


def to_text(name: bytes) -> bytes:
    """The text of an absolute name, every other byte than printable ASCII escaped: safe in a log or a key."""
    if name == ROOT:
        return b"."
    out = bytearray()
    at = 0
    while length := name[at]:
        for byte in name[at + 1 : at + 1 + length]:
            if byte in b".\\":
                out += b"\\%c" % byte
            elif 0x20 < byte < 0x7F:
                out.append(byte)
            else:
                out += b"\\%03d" % byte
        out += b"."
        at += length + 1
    return bytes(out)


def read(message: bytes, at: int) -> int:
    """The end of the uncompressed name at ``at``: what a question holds. Errors: ``ParseError``.

    A pointer is refused: nothing stands before the first question that it could point to (RFC 1035 §4.1.4).
    """
    start = at
    try:
        while length := message[at]:
            if length > MAX_LABEL:
                raise ParseError("compression or reserved label type in the question")
            at += length + 1
            if at - start >= MAX_NAME:
                raise ParseError("name is too long")
    except IndexError:
        raise ParseError("message ends within a name") from None
    return at + 1


def skip(message: bytes, at: int) -> int:
    """The end of the possibly compressed name at ``at``; where a pointer leads is not followed.

    Errors: ``ParseError``.
    """
    start = at
    try:
        while length := message[at]:
            if length >= 0xC0:
                # It can only lead backwards, past the header (RFC 1035 §4.1.4).
                target = (length & 0x3F) << 8 | message[at + 1]
                if not 12 <= target < at:
                    raise ParseError("compression pointer leads nowhere")
                return at + 2
            if length > MAX_LABEL:
                raise ParseError("reserved label type")
            at += length + 1
            if at - start >= MAX_NAME:
                raise ParseError("name is too long")
    except IndexError:
        raise ParseError("message ends within a name") from None
    return at + 1


def _split(text: bytes) -> list[bytes]:
    """The labels of a dotted text."""
    return text.split(b".") if b"\\" not in text else _unescape(text)


def _joined(labels: list[bytes], origin: bytes) -> bytes:
    for label in labels:
        if not label:
            raise ParseError("empty label")
        if len(label) > MAX_LABEL:
            raise ParseError("label of more than 63 bytes")
    name = b"".join([b"%c%b" % (len(label), label) for label in labels]) + origin
    if len(name) > MAX_NAME:
        raise ParseError("name of more than 255 bytes")
    return name


def _unescape(text: bytes) -> list[bytes]:
    labels = [bytearray()]
    at = 0
    for piece in _ESCAPED.finditer(text):
        if piece.start() != at:
            break
        at = piece.end()
        number, escaped, literal = piece.groups()
        if literal == b".":
            labels.append(bytearray())
        elif number is None:
            labels[-1] += escaped or literal
        elif int(number) < 256:
            labels[-1].append(int(number))
        else:
            raise ParseError("escape above \\255")
    if at != len(text):
        raise ParseError("unfinished escape")
    return [bytes(label) for label in labels]
