"""What the daemon's unit tests share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], dict[str, Any]]:
    """``vectors("identity")``: the compatibility vectors of ``tests/vectors/identity.json``."""

    def load(name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((_VECTORS / f"{name}.json").read_text("utf-8"))
        return loaded

    return load
