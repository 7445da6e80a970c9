"""The identity seed file. Reading never changes the file."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from tfgateway import gojson, versioned
from tfgateway.errors import IdentityError
from tfgateway.identity.keys import SEED_SIZE
from tfgateway.identity.words import seed_from_words, words_from_seed

RAW_SEED = versioned.Version(1, 0, 0)
WORDS_AND_TID = versioned.Version(1, 1, 0)
_MAX_FILE = 4096


@dataclass(frozen=True, slots=True)
class SeedFile:
    """What a seed file holds."""

    seed: bytes = field(repr=False)
    """32 bytes; secret."""
    tid: int | None = None
    """The user's id at the explorer; only version 1.1.0 has it."""


def generate_seed() -> bytes:
    """32 bytes from the operating system's random source."""
    return secrets.token_bytes(SEED_SIZE)


def parse_seed_file(raw: bytes) -> SeedFile:
    """The content of a seed file of any form that the old gateway reads or leaves behind. Errors: ``IdentityError``."""
    version, payload = versioned.split(raw)
    if version is None or version == RAW_SEED:
        return SeedFile(_sized(payload))
    if version != WORDS_AND_TID:
        raise IdentityError("unknown seed version")
    try:
        members = gojson.decode_object(payload)
    except ValueError:
        # C-1: the old gateway rewrites a raw seed with the wrong version in front of it.
        if len(payload) == SEED_SIZE:
            return SeedFile(payload)
        raise IdentityError("a seed file of version 1.1.0 holds a JSON object with the mnemonic") from None
    words, tid = members.get("mnemonic"), members.get("threebotid")
    if not isinstance(words, str):
        raise IdentityError("the seed file has no mnemonic")
    # The old gateway reads the words only: anything else must not keep a node from starting.
    return SeedFile(seed_from_words(words), tid if type(tid) is int and tid >= 0 else None)


def format_seed_file(content: SeedFile) -> bytes:
    """Version 1.0.0 (39 bytes) without a tid, version 1.1.0 with one."""
    if content.tid is None:
        return versioned.join(RAW_SEED, _sized(content.seed))
    payload = {"mnemonic": words_from_seed(content.seed), "threebotid": content.tid}
    return versioned.join(WORDS_AND_TID, gojson.encode(payload))


def load(path: Path) -> SeedFile:
    """Read and parse; the file stays as it is. Errors: ``IdentityError`` that names the file."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_FILE:
        raise IdentityError(f"{path}: larger than {_MAX_FILE} bytes, not a seed file")
    try:
        return parse_seed_file(raw)
    except IdentityError as error:
        raise IdentityError(f"{path}: {error}") from error


def create(path: Path, seed: bytes, tid: int | None = None, mode: int = 0o400) -> None:
    """Write a new seed file and wait until it is on the disk; an existing file is never touched.

    Errors: ``IdentityError``, after which no half-written file is left.
    """
    raw = format_seed_file(SeedFile(seed, tid))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise IdentityError(f"{path}: exists already and is not overwritten") from None
    except OSError as error:
        raise IdentityError(f"{path}: cannot be created: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask is
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise IdentityError(f"{path}: cannot be written: {error.strerror}") from error


def _sync_directory(directory: Path) -> None:
    """Make the name durable, not only the content."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sized(seed: bytes) -> bytes:
    if len(seed) != SEED_SIZE:
        raise IdentityError(f"seed has the wrong size {len(seed)} and should be {SEED_SIZE}")
    return seed
