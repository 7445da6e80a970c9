"""The file of what the DNS plane must keep secret: cookie secrets and TSIG keys.

It is a TOML file of its own, so that ``gateway.toml`` may be read by everybody and shown in a diff::

    cookies = ["e5e973e5a6b2a43f48e7dc849e37bfcf"]  # 16 bytes in hex; the first makes cookies, all are accepted
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from tfgateway.dns.cookies import SECRET_SIZE
from tfgateway.errors import ConfigError

CookieSecret = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f]{32}\Z")]


class Secrets(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The file's content."""

    cookies: tuple[CookieSecret, ...] = ()
    """To roll over (RFC 9018 §5): add the new one last on all servers, then make it the first, then drop the old."""

    @property
    def cookie_secrets(self) -> list[bytes]:
        """As bytes."""
        return [bytes.fromhex(secret) for secret in self.cookies]


def load(path: str) -> Secrets:
    """Read the file; empty path: there is none. Errors: ``ConfigError`` that tells nothing of its content."""
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

    It comes from the kernel's random boot id, which nobody outside can know; who is on the node can, and gains no more
    than not to be rate limited.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return bytes.fromhex(boot.strip().replace("-", ""))[:SECRET_SIZE]
