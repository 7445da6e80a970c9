from __future__ import annotations

from tfgateway.reconciler.backoff import Backoff


def test_waits_double_up_to_the_longest_and_begin_again_after_success() -> None:
    bounds: list[tuple[float, float]] = []

    def spread(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    backoff = Backoff(first=1, longest=10, spread=spread)
    assert [backoff.failed() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.succeeded()
    assert backoff.failed() == 1
    assert all(low == high / 2 for low, high in bounds)


def test_it_survives_a_week_of_failures() -> None:
    backoff = Backoff()
    waits = [backoff.failed() for _ in range(20_000)]
    assert max(waits) <= 60
    assert min(waits[10:]) >= 30
    assert len(set(waits)) > 1000, "jittered"
