"""Ed25519 keys of gateways and users, and their node ids."""

from __future__ import annotations

import base58
import nacl.exceptions
import nacl.signing

from tfgateway.errors import IdentityError
from tfgateway.ids import NodeId

SEED_SIZE = 32
PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64
_LONGEST_NODE_ID = 44  # base58 of 32 bytes


class Identity:
    """A key pair. Prints as its node id only, so that a seed never reaches a log."""

    __slots__ = ("_key", "node_id", "public_key", "seed")

    seed: bytes
    """32 bytes; secret."""
    public_key: bytes
    """32 bytes."""
    node_id: NodeId

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise IdentityError(f"seed has the wrong size {len(seed)} and should be {SEED_SIZE}")
        self.seed = bytes(seed)
        self._key = nacl.signing.SigningKey(self.seed)
        self.public_key = bytes(self._key.verify_key)
        self.node_id = public_key_to_node_id(self.public_key)

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The key pair of RFC 8032 for a 32-byte seed. Errors: ``IdentityError``."""
        return cls(seed)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of a detached signature (RFC 8032 §5.1.6)."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"Identity({self.node_id})"


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is of ``message`` by ``public_key``; a key or signature of a wrong size is not."""
    if len(public_key) != PUBLIC_KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        nacl.signing.VerifyKey(public_key).verify(message, signature)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def public_key_to_node_id(public_key: bytes) -> NodeId:
    """base58 (Bitcoin alphabet) of 32 bytes; leading zero bytes become leading ``1``. Errors: ``IdentityError``."""
    if len(public_key) != PUBLIC_KEY_SIZE:
        raise IdentityError(f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(public_key)}")
    return NodeId(base58.b58encode(public_key).decode("ascii"))


def node_id_to_public_key(node_id: str) -> bytes:
    """The 32 bytes behind a node id. Errors: ``IdentityError``, unlike upstream also for another length."""
    wrong = IdentityError("a node id is the base58 text of 32 bytes")
    if len(node_id) > _LONGEST_NODE_ID:
        raise wrong
    try:
        public_key = base58.b58decode(node_id)
    except ValueError:
        raise wrong from None
    # The decoder ignores trailing white space, but a key must have one id.
    if len(public_key) != PUBLIC_KEY_SIZE or public_key_to_node_id(public_key) != node_id:
        raise wrong
    return public_key
