"""The records that users made by DNS updates, in a file: written, with fsync, before an update is answered.

The file is the truth; what redis holds of it (``redis_schema.resource_records``) is written again when it is lost. It
has a JSON object a line, after a checksum, and each says what the names in it have from then on::

    5a0c6f1e {"time":1750000000,"mac":"9f...","names":{"_acme-challenge.alice.example":{...}}}
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from tfgateway.dns.wire import names
from tfgateway.dns.wire.names import Name
from tfgateway.errors import ParseError, SchemaError
from tfgateway.reconciler.updates.holdings import text
from tfgateway.redis_schema.resource_records import ResourceRecord

NAME: Final = "updates.journal"
_SLACK: Final = 4 * 1024 * 1024
"""Bytes that are appended before the file is written anew."""
_CHECKSUM: Final = 8
_FORM: Final = 1


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What updates have made of a name."""

    user: str
    """Decimal tid."""
    domain: str
    """Of the reservation that the right to the name comes from, without a final dot."""
    records: tuple[ResourceRecord, ...] = ()
    """Empty: nothing is left."""


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    time: float
    names: dict[str, Entry]
    mac: str = ""
    form: int = _FORM


_decoder = msgspec.json.Decoder(_Line)


class Journal:
    """The file, and what it says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        """Bytes of the file that are whole."""
        self._sound = False
        """Whether what follows may be appended."""
        self._written = 0
        self.entries: dict[Name, Entry] = {}
        """Name -> what updates have made there; to look at, changed by ``append``."""
        self.macs: dict[str, float] = {}
        """MAC, in hex, of an update that was carried out -> when, Unix seconds."""
        self.is_new = not path.exists()
        """Whether there is no such file yet: then redis may know more. Once something is appended, there is."""

    def load(self) -> None:
        """Read the file, if there is one. Errors: ``OSError``; ``SchemaError``: a line is damaged or unknown."""
        if self.is_new:
            return
        content = self._path.read_bytes()
        for line in _lines(content):
            self._take(line)
        self._size = self._written = content.rfind(b"\n") + 1
        self._sound = True

    def append(self, changes: Mapping[Name, Entry], *, now: float, mac: str = "") -> None:
        """Make a change durable, then take it over. Blocks for an fsync. Errors: ``OSError``: nothing has changed."""
        line = _Line(now, {text(name): entry for name, entry in changes.items()}, mac)
        if not self._sound or self._written > _SLACK:
            self._rewrite()
        raw = _encoded(line)
        try:
            with self._path.open("r+b") as file:
                file.truncate(self._size)
                file.seek(self._size)
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # What was written of it may be there after a crash, or not: the file is written anew before the next one.
            self._sound = False
            raise
        self.is_new = False
        self._size += len(raw)
        self._written += len(raw)
        self._take(line)

    def of(self, user: str) -> dict[Name, tuple[ResourceRecord, ...]]:
        """All records of a user."""
        return {name: entry.records for name, entry in self.entries.items() if entry.user == user}

    def _take(self, line: _Line) -> None:
        for owner, entry in line.names.items():
            try:
                name = names.fold(names.from_text(owner.encode() + b"."))
            except ParseError as error:
                raise SchemaError("a name is not valid") from error
            if entry.records:
                self.entries[name] = entry
            else:
                self.entries.pop(name, None)
        if line.mac:
            self.macs[line.mac] = line.time

    def _rewrite(self) -> None:
        """Replace the file by one that says the same. Errors: ``OSError``."""
        part = self._path.with_name(f"{self._path.name}.part")
        lines = [_encoded(_Line(time, {}, mac)) for mac, time in self.macs.items()]
        lines += [_encoded(_Line(0, {text(name): entry})) for name, entry in self.entries.items()]
        content = b"".join(lines)
        try:
            descriptor = os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self._path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._size, self._written, self._sound = len(content), 0, True

    def forget_macs(self, before: float) -> None:
        """Forget the MACs of updates that are too old to be accepted once more. before: Unix seconds."""
        for mac in [mac for mac, time in self.macs.items() if time < before]:
            del self.macs[mac]


def _encoded(line: _Line) -> bytes:
    raw = msgspec.json.encode(line)
    return b"%08x %b\n" % (zlib.crc32(raw), raw)


def _lines(content: bytes) -> Iterator[_Line]:
    """All lines; the last one has no end when the node lost its power while it was written, and was not answered.

    Errors: ``SchemaError``.
    """
    whole, _, _ = content.rpartition(b"\n")
    for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
        raw = line[_CHECKSUM + 1 :]
        if line[: _CHECKSUM + 1] != b"%08x " % zlib.crc32(raw):
            raise SchemaError(f"line {number} is damaged")
        try:
            decoded = _decoder.decode(raw)
        except msgspec.MsgspecError:
            raise SchemaError(f"line {number} is of a form that this release does not know") from None
        if decoded.form != _FORM:
            raise SchemaError(f"line {number} is of form {decoded.form}, which this release does not know")
        yield decoded
