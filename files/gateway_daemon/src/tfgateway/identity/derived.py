"""Keys derived from a seed, each for one purpose: members of a group have the same without exchanging any (pure).

HKDF (RFC 5869) with SHA-256, the seed as input key, ``tfgateway`` as salt and the purpose as info; 32 bytes. Vectors
are in ``tests/unit/daemon/identity/test_derived.py``.
"""

from __future__ import annotations

import base64
import textwrap

import nacl.signing

from tfgateway.identity.dns_key import hkdf_sha256
from tfgateway.identity.keys import SEED_SIZE

_SALT = b"tfgateway"
_CERTIFICATE = "certificate of the group"
_NAME = "tfgateway group"

_ED25519 = bytes.fromhex("300506032b6570")
"""AlgorithmIdentifier of Ed25519 (RFC 8410)."""
_COMMON_NAME = bytes.fromhex("0603550403")
_ALWAYS = b"\x30\x22\x18\x0f20200101000000Z\x18\x0f99991231235959Z"
"""Validity: 99991231235959Z is "no well-defined expiration date" (RFC 5280 §4.1.2.5)."""
_IS_AN_AUTHORITY = bytes.fromhex("a3133011300f0603551d130101ff040530030101ff")
"""Extension basicConstraints: it signed itself, so it has to be one for members to trust it."""


def derive(seed: bytes, purpose: str) -> bytes:
    """32 secret bytes for this purpose."""
    return hkdf_sha256(seed, purpose.encode("utf-8"), _SALT)


def group_certificate(seed: bytes) -> str:
    """Key and self-signed certificate (Ed25519) of a group, as PEM: the same text for the same seed.

    Members present it to each other and trust nothing else, so that names and dates in it mean nothing.
    """
    key = nacl.signing.SigningKey(derive(seed, _CERTIFICATE)[:SEED_SIZE])
    public = b"\x30\x2a" + _ED25519 + b"\x03\x21\x00" + bytes(key.verify_key)
    name = _sequence(_tagged(0x31, _sequence(_COMMON_NAME + _tagged(0x0C, _NAME.encode("ascii")))))
    content = _sequence(
        b"\xa0\x03\x02\x01\x02" + b"\x02\x01\x01" + _ED25519 + name + _ALWAYS + name + public + _IS_AN_AUTHORITY
    )
    signature = key.sign(content).signature
    certificate = _sequence(content + _ED25519 + b"\x03\x41\x00" + signature)
    private = _sequence(b"\x02\x01\x00" + _ED25519 + _tagged(0x04, _tagged(0x04, bytes(key))))
    return _pem("PRIVATE KEY", private) + _pem("CERTIFICATE", certificate)


def _sequence(content: bytes) -> bytes:
    return _tagged(0x30, content)


def _tagged(tag: int, content: bytes) -> bytes:
    """A value in DER, of less than 64 KiB."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes(2, "big").lstrip(b"\0")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _pem(label: str, content: bytes) -> str:
    text = "\n".join(textwrap.wrap(base64.b64encode(content).decode("ascii"), 64))
    return f"-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"
