"""Versioned byte streams: a JSON string with a semantic version, then the payload."""

from __future__ import annotations

import re
from typing import NamedTuple

_PREFIX = re.compile(
    rb'[ \t\r\n]*"(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})'
    rb'(?:-([0-9A-Za-z.-]{1,64}))?(?:\+[0-9A-Za-z.-]{1,64})?"'
)


class Version(NamedTuple):
    """A semantic version; build metadata does not count (semver.org §10)."""

    major: int
    minor: int
    patch: int
    prerelease: str = ""


def split(raw: bytes) -> tuple[Version | None, bytes]:
    """``(version, payload)``: the payload is every byte after the closing quote; version ``None``: not versioned."""
    found = _PREFIX.match(raw)
    if not found:
        return None, raw
    major, minor, patch, prerelease = found.groups(b"")
    return Version(int(major), int(minor), int(patch), prerelease.decode("ascii")), raw[found.end() :]


def join(version: Version, payload: bytes) -> bytes:
    """The stream that ``split`` takes apart; there is no separator."""
    suffix = f"-{version.prerelease}" if version.prerelease else ""
    return f'"{version.major}.{version.minor}.{version.patch}{suffix}"'.encode("ascii") + payload
