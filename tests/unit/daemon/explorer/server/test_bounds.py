"""Texts and lists of posted objects, whichever endpoint they are posted to."""

from __future__ import annotations

import pytest
from tfgateway.explorer.models import Farm, Result, SigningRequest, Subdomain, User, WalletAddress
from tfgateway.explorer.server.api.bounds import problem


@pytest.mark.parametrize(
    "posted",
    [
        User(description="x" * 4096),
        User(description="\u00e9" * 2048),
        Subdomain(json="x" * 16384, ips=("192.0.2.1",) * 100),
        Result(data_json=b"1" * 16384, message="x" * 4096),
    ],
)
def test_what_clients_may_send(posted: User) -> None:
    assert problem(posted) is None


@pytest.mark.parametrize(
    ("posted", "reason"),
    [
        (User(description="\u00e9" * 2049), "description is longer than 4096 bytes"),
        (Subdomain(ips=("192.0.2.1",) * 101), "ips has more than 100 items"),
        (Subdomain(ips=("192.0.2.1", "x" * 4097)), "ips is longer than 4096 bytes"),
        (
            Subdomain(signing_request_delete=SigningRequest(signers=(1,) * 101)),
            "signing_request_delete: signers has more than 100 items",
        ),
        (
            Farm(wallet_addresses=(WalletAddress(address="x" * 4097),)),
            "wallet_addresses: address is longer than 4096 bytes",
        ),
        (Result(data_json=b"1" * 16385), "data_json is longer than 16384 bytes"),
        (Farm(wallet_addresses=(WalletAddress(address="x\0"),)), "wallet_addresses: address has a NUL character"),
    ],
)
def test_what_is_refused(posted: User, reason: str) -> None:
    assert problem(posted) == reason
