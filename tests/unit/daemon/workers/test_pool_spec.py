"""How many workers there are."""

from __future__ import annotations

import pytest
from tfgateway.workers.pool_spec import default_workers


@pytest.mark.parametrize(("processors", "workers"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (128, 8)])
def test_default_is_half_of_the_processors(processors: int, workers: int) -> None:
    assert default_workers(processors, 1) == workers
    assert default_workers(processors, 2) == max(2, workers)
