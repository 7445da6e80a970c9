"""Signatures for an explorer: requests, workloads, results. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from enum import StrEnum

import msgspec

from tfgateway import gojson
from tfgateway.errors import CryptoError, ParseError
from tfgateway.explorer.models import Approval, PoolOrder, ResultState, User, Workload
from tfgateway.identity.keys import Identity, verify

REQUIRED_ITEMS = ("(created)", "date", "threebot-id")
DIGEST = "digest"
NONCE = "signature-nonce"
"""Header of ours that makes a signature good for one request: 128 random bits in hex."""
BOUND_ITEMS = ("(request-target)", "host", DIGEST, NONCE)
"""What a bound signature covers on top of ``REQUIRED_ITEMS``."""
PIN = "signature-pin"
"""Header of ours in answers to bound requests: what the explorer says of the key, see ``Pin``."""
_ALGORITHM = "ed25519"
_SCHEME = "Signature "
_LIFETIME = 60
_UNKNOWN_TIME = -62135596800  # what Go prints for a missing or bad time
_LONGEST_AUTHORIZATION = 4096  # characters; what clients send has less than 400
_MOST_ITEMS = 20  # old clients sign three, ours seven
# Linear: a match begins at the first letter of a name only, and what was matched is never given back.
_PARAMETER = re.compile(r'(?<![A-Za-z])([A-Za-z]++)="([^"]*+)"')
_NONCE = re.compile(r"[A-Za-z0-9_-]{22,64}")
_NUMBER = re.compile(r"-?[0-9]{1,18}")


class Pin(StrEnum):
    """Whether the explorer accepts only bound signatures of a key."""

    SET = "set"
    OFFERED = "offered"
    """Not yet, and no other has been used for so long that the key's owner may ask for it."""


@dataclass(frozen=True, slots=True)
class HttpSignature:
    """A parsed ``Authorization`` value. ``items``: what is signed, in order, lower case; times in Unix seconds."""

    key_id: str
    signature: bytes
    items: tuple[str, ...]
    created: int
    expires: int

    @property
    def bound(self) -> bool:
        """Whether it covers method, target, host, body and a nonce: nothing else can be sent with it."""
        return set(BOUND_ITEMS) <= set(self.items)


@dataclass(frozen=True, slots=True)
class Once:
    """What binds a signature to one request. ``target``: path and query as sent; ``host``: the value of ``Host``."""

    method: str
    target: str
    host: str
    nonce: str


def request_headers(
    identity: Identity, key_id: str, now: int, body: bytes | None = None, once: Once | None = None
) -> dict[str, str]:
    """The headers that authenticate a request of ``key_id`` (node id or decimal tid) made at ``now``.

    A body that is given here is signed too, which explorers that do not look at it accept, and so is what ``once``
    says: the signature is bound then.
    """
    headers = {"Threebot-Id": key_id, "Date": formatdate(now, usegmt=True)}
    covered = {"(created)": str(now), "date": headers["Date"], "threebot-id": key_id}
    if once is not None:
        covered |= {"(request-target)": f"{once.method.lower()} {once.target}", "host": once.host}
    if body is not None:
        covered[DIGEST] = headers["Digest"] = digest(body)
    if once is not None:
        covered[NONCE] = headers["Signature-Nonce"] = once.nonce
    lines = "\n".join(f"{item}: {value}" for item, value in covered.items())
    signature = base64.b64encode(identity.sign(lines.encode())).decode()
    headers["Authorization"] = (
        f'{_SCHEME}keyId="{key_id}",algorithm="{_ALGORITHM}",created="{now}",expires="{now + _LIFETIME}",'
        f'headers="{" ".join(covered)}",signature="{signature}"'
    )
    return headers


def new_nonce() -> str:
    """128 random bits in hex."""
    return secrets.token_hex(16)


def nonce_problem(text: str) -> str | None:
    """Why this is no nonce; None when it is one."""
    return None if _NONCE.fullmatch(text) else "is not one value of 22 to 64 letters, digits, - and _"


def digest(body: bytes) -> str:
    """The value of a ``Digest`` header (RFC 3230)."""
    return f"SHA-256={base64.b64encode(hashlib.sha256(body).digest()).decode()}"


def parse_authorization(values: Sequence[str]) -> HttpSignature:
    """The signature in a request's ``Authorization`` values: of those with its scheme the last, and no other.

    Errors: ``ParseError``, also for one that is longer than 4096 characters or signs more than 20 items, or one twice.
    """
    value = next((value for value in reversed(values) if value.startswith(_SCHEME)), None)
    if value is None:
        raise ParseError("no signature in the Authorization header")
    if len(value) > _LONGEST_AUTHORIZATION:
        raise ParseError(f"the Authorization header is longer than {_LONGEST_AUTHORIZATION} characters")
    return _signature(dict(_PARAMETER.findall(value, len(_SCHEME))))


def _signature(parameters: Mapping[str, str]) -> HttpSignature:
    key_id, algorithm = parameters.get("keyId", ""), parameters.get("algorithm", "")
    try:
        signature = base64.b64decode(parameters.get("signature", ""), validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if not key_id or algorithm != _ALGORITHM or not signature:
        raise ParseError("keyId, algorithm (ed25519) and signature (base64) are required")
    items = tuple(parameters.get("headers", "date").lower().split())
    if missing := [item for item in REQUIRED_ITEMS if item not in items]:
        raise ParseError(f"not signed: {' '.join(missing)}")
    if len(items) > _MOST_ITEMS or len(set(items)) < len(items):
        # Each is joined with all values of its header before the signature can be looked at.
        raise ParseError(f"headers must name at most {_MOST_ITEMS} items, each once")
    return HttpSignature(
        key_id=key_id,
        signature=signature,
        items=items,
        created=_number(parameters.get("created", "")),
        # Go clients send a broken text here; a broken one is as good as none.
        expires=_number(parameters.get("expires", "")),
    )


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else _UNKNOWN_TIME


def verify_request(
    signature: HttpSignature,
    public_key: bytes,
    *,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
) -> None:
    """Check a request: ``target`` is path and query as sent, ``headers`` all of them in order.

    Errors: ``CryptoError`` when an item is absent or the signature is not of this key.
    """
    special = {
        "(request-target)": f"{method.lower()} {target}",
        "(created)": str(signature.created),
        "(expires)": str(signature.expires),
    }
    received: dict[str, list[str]] = {}
    for name, value in headers:
        received.setdefault(name.lower(), []).append(value.strip())
    lines: list[str] = []
    for item in signature.items:
        values = [special[item]] if item in special else received.get(item, [])
        if not values:
            raise CryptoError(f"signed header '{item}' is missing")
        lines += [f"{item}: {value}" for value in values]
    if not verify(public_key, "\n".join(lines).encode("utf-8", "surrogateescape"), signature.signature):
        raise CryptoError("signature does not match")


def challenge(workload: Workload) -> str:
    """The text that a user's signatures cover.

    A type that gateways do not serve has no members of its own here: only the common ones are covered.
    """
    parts: list[object] = [
        workload.workload_id,
        workload.node_id,
        workload.pool_id,
        workload.reference,
        workload.customer_tid,
        workload.type_name.upper(),
        int(workload.epoch),
        workload.description,
        workload.metadata,
    ]
    for name in workload.signed:
        value = getattr(workload, name)
        parts += value if isinstance(value, tuple) else [value]
    return "".join(map(str, parts))


def workload_message(workload: Workload) -> bytes:
    """The message that ``customer_signature`` signs."""
    return _digest(challenge(workload))


def approval_message(workload: Workload, word: str, tid: int) -> bytes:
    """What an approval signs; ``word`` is ``provision`` or ``delete``, the workload as the explorer returns it."""
    return _digest(f"{challenge(workload)}{word}{tid}")


def result_message(state: int, message: str, data_json: bytes) -> bytes:
    """What a node's result signs: ``data_json`` byte for byte as sent."""
    return bytes([state]) + message.encode() + data_json


def user_update_message(user: User, sequence: int = 0) -> bytes:
    """What ``sender_signature_hex`` of a changed user signs, members as posted.

    sequence: 0 for the form of old clients, in which ``host`` and ``description`` may share out their text otherwise.
    """
    if sequence:
        members = (user.id, user.name, user.email, user.host, user.description, user.pubkey, sequence)
        return gojson.encode(["tfgateway user_update", *members])
    return f"{user.id}{user.name}{user.email}{user.host}{user.description}{user.pubkey}".encode()


def key_proof_message(user: User) -> bytes:
    """What ``key_proof`` of a new user signs, members as posted; no other message begins like it (C-6)."""
    return gojson.encode(["tfgateway key_proof", user.name, user.email, user.pubkey])


def sign_workload(workload: Workload, identity: Identity) -> Workload:
    """The workload with its ``customer_signature``."""
    return msgspec.structs.replace(workload, customer_signature=identity.sign(workload_message(workload)).hex())


def sign_approval(workload: Workload, word: str, tid: int, identity: Identity) -> Approval:
    """``tid``'s approval of ``word`` (``provision`` or ``delete``) for a workload as the explorer returns it."""
    return Approval(tid=tid, signature=identity.sign(approval_message(workload, word, tid)).hex())


def sign_result(state: ResultState, message: str, data_json: bytes, identity: Identity) -> str:
    """Hex signature of a result."""
    return identity.sign(result_message(state, message, data_json)).hex()


def sign_pool_order(order: PoolOrder, identity: Identity) -> tuple[str, str]:
    """The order as JSON text, and the hex signature over exactly that text."""
    text = msgspec.json.encode(order)
    return text.decode(), identity.sign(text).hex()


def verify_hex(public_key: bytes, message: bytes, signature: str) -> None:
    """Check a hex signature. Errors: ``CryptoError`` that says whether the hex or the signature is wrong."""
    try:
        raw = binascii.unhexlify(signature)
    except ValueError:
        raise CryptoError("signature is not hex") from None
    if not verify(public_key, message, raw):
        raise CryptoError("signature does not match")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
