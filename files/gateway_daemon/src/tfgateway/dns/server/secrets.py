"""The secrets file of the DNS plane: cookie secrets and TSIG keys.

It is a TOML file of its own, so that ``gateway.toml`` may be read by everybody and shown in a diff::

    cookies = ["e5e973e5a6b2a43f48e7dc849e37bfcf"]  # 16 bytes in hex; the first makes cookies, all are accepted

    [[tsig]]
    name = "secondary.example."
    algorithm = "hmac-sha256"
    secret = "c2VjcmV0IG9mIDMyIGJ5dGVzLCBpbiBiYXNlIDY0ISE="  # as tsig-keygen prints it
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import dns.name
import dns.tsig
import msgspec

from tfgateway.dns.wire import names
from tfgateway.dns.wire.cookies import SECRET_SIZE
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.tsig import ALGORITHMS, Keys
from tfgateway.errors import ConfigError, ParseError

CookieSecret = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f]{32}\Z")]


class TsigKey(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A TSIG key that secondaries sign with: [[tsig]]."""

    name: str
    algorithm: str = "hmac-sha256"
    secret: bytes
    """msgspec reads it from base 64."""


class Secrets(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The content of the file."""

    cookies: tuple[CookieSecret, ...] = ()
    """To roll over (RFC 9018 §5): add the new one last on all servers, then make it the first, then drop the old."""

    tsig: tuple[TsigKey, ...] = ()

    @property
    def keys(self) -> Keys:
        """The TSIG keys. Errors: ``ConfigError``."""
        keys = {}
        for key in self.tsig:
            if key.algorithm not in ALGORITHMS:
                raise ConfigError(
                    f"dns.secrets: tsig '{key.name}': the algorithm has to be one of {', '.join(ALGORITHMS)}"
                )
            if not key.secret:
                raise ConfigError(f"dns.secrets: tsig '{key.name}': the secret is empty")
            name = key_name(key.name)
            keys[name] = dns.tsig.Key(dns.name.from_wire(name, 0)[0], key.secret, key.algorithm)
        return keys

    @property
    def cookie_secrets(self) -> list[bytes]:
        """The cookie secrets as bytes."""
        return [bytes.fromhex(secret) for secret in self.cookies]


def key_name(text: str) -> Name:
    """The name of a key; the final dot may be missing. Errors: ``ConfigError``."""
    try:
        return names.fold(names.from_text(text.encode() if text.endswith(".") else text.encode() + b"."))
    except ParseError as error:
        raise ConfigError(f"name of a TSIG key: '{text}': {error}") from error


def load(path: str) -> Secrets:
    """Read the file; empty path: there is none. Errors: ``ConfigError`` that reveals nothing of its content."""
    if not path:
        return Secrets()
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"dns.secrets: {path}: cannot be read: {error.strerror}") from error
    try:
        return msgspec.toml.decode(raw, type=Secrets)
    except msgspec.ValidationError as error:  # names key and rule, not the value
        raise ConfigError(f"dns.secrets: {path}: {error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"dns.secrets: {path}: is not TOML") from None


def of_this_boot() -> bytes:
    """A cookie secret for a server whose configuration has none: the same for all workers, until the node reboots.

    It comes from the kernel's random boot id, which is unknown outside of the node; what local users gain by it is
    only not to be rate limited.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return bytes.fromhex(boot.strip().replace("-", ""))[:SECRET_SIZE]
