from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def known(vectors: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The redis values of the vectors."""
    return vectors("redis")
