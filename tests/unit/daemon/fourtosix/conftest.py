from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tfgateway.fourtosix.pool import AddressPool


@pytest.fixture(scope="session")
def known(vectors: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The vectors of 4to6."""
    found: dict[str, Any] = vectors("identity")["fourtosix"]
    return found


@pytest.fixture(scope="session")
def pool() -> AddressPool:
    """Of the gateway of the vectors."""
    return AddressPool(bytes(range(32)))
