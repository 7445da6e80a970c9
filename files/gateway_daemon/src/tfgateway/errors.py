"""The error classes of the daemon. Handlers decide by class, never by text."""

from __future__ import annotations


class GatewayError(Exception):
    """Base of every error that this package raises on purpose. The text is for an operator."""


class ConfigError(GatewayError):
    """Settings that cannot be used; the text names the key and what to put there. Exit code 2."""


class IdentityError(GatewayError):
    """A seed file, mnemonic or key that cannot be used."""


class CryptoError(GatewayError):
    """A ciphertext or signature that is malformed or does not verify."""


class SchemaError(GatewayError):
    """A redis value that does not have the form of the redis layout."""


class StoreError(GatewayError):
    """Redis is away, loading, full or answered with an error: a retry may succeed."""


class ProgramError(GatewayError):
    """A program of the system that is missing, failed, or did not end in time."""


class AddressInUseError(GatewayError):
    """Another process has an address that is to be listened on; it may let go of it."""


class LeaseError(GatewayError):
    """Another process has the lease; the text says which."""


class ExplorerError(GatewayError):
    """The explorer could not be asked or did not do what was asked."""


class ExplorerUnavailable(ExplorerError):
    """Network failure, time-out, 5xx, 429 or an answer that is not JSON: a retry may succeed.

    nothing_done: the explorer says so (503 with Retry-After): even what must not be done twice may be sent again.
    """

    def __init__(self, message: str, *, nothing_done: bool = False) -> None:
        super().__init__(message)
        self.nothing_done = nothing_done


class ExplorerRefused(ExplorerError):
    """The explorer understood and refused: trying again unchanged is pointless.

    status: HTTP status (4xx). message: the explorer's own words, control characters escaped.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"explorer refused ({status}): {message}")
        self.status = status
        self.message = message


class ParseError(GatewayError, ValueError):
    """Bytes from the network that are not of the protocol they claim to be."""
