from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def known(vectors: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The vectors of identity and encryption."""
    return vectors("identity")


@pytest.fixture(scope="session", params=["gateway", "user"])
def party(request: pytest.FixtureRequest, known: dict[str, Any]) -> dict[str, Any]:
    """Either of the two identities of the vectors."""
    found: dict[str, Any] = known[request.param]
    return found
