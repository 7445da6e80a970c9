"""The encryption of a backup: frames that only the operator's private key can decrypt (pure).

``MAGIC``, the file's own key (32 bytes) sealed for the operator (libsodium sealed box, 80 bytes), the header of a
libsodium secretstream (XChaCha20-Poly1305, 24 bytes), then frames: length of the ciphertext (4 bytes, big endian) and
ciphertext.
The stream's last message is marked as such, so that a file that was cut is found out, and so is one whose frames were
left out, repeated or moved. The file's own key opens this file alone: a node is given that one, never the operator's.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import struct
from collections.abc import Callable, Iterator

from nacl import bindings
from nacl.exceptions import CryptoError as SodiumError
from nacl.public import PrivateKey, PublicKey, SealedBox

from tfgateway.errors import CryptoError

MAGIC = b"tfgateway-backup 1\n"
KEY_SIZE = 32
LARGEST_FRAME = 1 << 30
"""Bytes of one message: redis holds no larger value than half of that."""

_SEALED = KEY_SIZE + bindings.crypto_box_SEALBYTES
_LENGTH = struct.Struct(">I")
_MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_HEADER = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_OVERHEAD = bindings.crypto_secretstream_xchacha20poly1305_ABYTES

Read = Callable[[int], bytes]
"""As a binary file's ``read``: fewer bytes than asked for only at its end."""


def encode_key(key: bytes) -> str:
    """A key in base64, as it is shown and kept."""
    return base64.b64encode(key).decode("ascii")


def decode_key(text: str) -> bytes:
    """A key from base64. Errors: ``CryptoError``, which repeats nothing of the text."""
    try:
        key = base64.b64decode(text.strip().encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise CryptoError("a key of a backup is base64 of 32 bytes") from None
    if len(key) != KEY_SIZE:
        raise CryptoError("a key of a backup is base64 of 32 bytes")
    return key


def generate_private_key() -> bytes:
    """A new private key of an operator, 32 bytes."""
    return bytes(PrivateKey.generate())


def public_key(private: bytes) -> bytes:
    """The public key that nodes are given."""
    return bytes(PrivateKey(private).public_key)


class Sealer:
    """Encrypts a file, frame by frame."""

    def __init__(self, recipient: bytes) -> None:
        """recipient: the operator's public key, 32 bytes."""
        key = secrets.token_bytes(KEY_SIZE)
        sealed = SealedBox(PublicKey(recipient)).encrypt(key)
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        header = bindings.crypto_secretstream_xchacha20poly1305_init_push(self._state, key)
        self.head = MAGIC + sealed + header
        """What stands first in the file."""

    def frame(self, message: bytes, *, last: bool = False) -> bytes:
        """The next frame of the file."""
        tag = _FINAL if last else _MESSAGE
        sealed = bindings.crypto_secretstream_xchacha20poly1305_push(self._state, message, None, tag)
        return _LENGTH.pack(len(sealed)) + sealed


def unwrap(read: Read, private: bytes) -> bytes:
    """The file key. private: the operator's key. Errors: ``CryptoError``."""
    sealed = _sealed_key(read)
    try:
        return SealedBox(PrivateKey(private)).decrypt(sealed)
    except SodiumError:
        raise CryptoError("this backup was made for another operator's key, or is damaged") from None


def messages(read: Read, file_key: bytes) -> Iterator[bytes]:
    """All messages of a file, each authenticated and in its place.

    Errors: ``CryptoError``, also for a file that was cut.
    """
    _sealed_key(read)
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, _exactly(read, _HEADER), file_key)
    last = False
    while not last:
        (length,) = _LENGTH.unpack(_exactly(read, _LENGTH.size))
        if not _OVERHEAD <= length <= LARGEST_FRAME + _OVERHEAD:
            raise CryptoError("this backup is damaged")
        try:
            message, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(state, _exactly(read, length), None)
        except (SodiumError, RuntimeError):
            raise CryptoError("this backup is damaged, or the key is another file's") from None
        last = tag == _FINAL
        yield message
    if read(1):
        raise CryptoError("this backup is damaged: something stands behind its end")


def _sealed_key(read: Read) -> bytes:
    if read(len(MAGIC)) != MAGIC:
        raise CryptoError("this is no backup of a gateway")
    return _exactly(read, _SEALED)


def _exactly(read: Read, size: int) -> bytes:
    found = read(size)
    if len(found) != size:
        raise CryptoError("this backup is cut")
    return found
