"""Internationalised domain names (RFC 5890, with the mapping of UTS 46). Pure."""

from __future__ import annotations

import idna

from tfgateway.errors import ParseError


def to_ascii(name: str) -> str:
    """A name with its internationalised labels as A-labels (``xn--``); one of ASCII alone is returned as it is.

    Errors: ``ParseError`` for a label that IDNA does not allow.
    """
    if name.isascii():
        return name
    try:
        labels = idna.uts46_remap(name, std3_rules=False).split(".")
        if "" in labels[:-1]:
            raise idna.IDNAError("empty label")
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except idna.IDNAError:
        raise ParseError("not an internationalised host name") from None


def to_unicode(name: str) -> str | None:
    """The internationalised form of a lower-case ASCII name; None: it has none."""
    if "xn--" not in name:
        return None
    try:
        return idna.decode(name)
    except idna.IDNAError:
        return None
