"""One page of several processes' figures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from tfgateway.workers.metrics.merged import Family, FamilyCollector, lasting, merge, take

from tests.support.metrics import values


def process(queries: int, age: float, open_now: int) -> tuple[Family, ...]:
    registry = CollectorRegistry()
    Counter("queries", "Queries.", ["kind"], registry=registry).labels("A").inc(queries)
    Gauge("age", "Age.", registry=registry).set(age)
    Gauge("open", "Connections.", registry=registry).set(open_now)
    Histogram("wait", "Wait.", buckets=(1, 2), registry=registry).observe(1.5)
    return take(registry, greatest=("age",))


def page(families: tuple[Family, ...]) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(FamilyCollector(families))
    return values(generate_latest(registry).decode())


def test_counts_and_states_are_summed_and_what_all_know_alike_is_not() -> None:
    assert page(merge([process(3, 0.5, 10), process(4, float("inf"), 1)])) == {
        'queries_total{kind="A"}': 7,
        "age": float("inf"),
        "open": 11,
        'wait_bucket{le="1.0"}': 0,
        'wait_bucket{le="2.0"}': 2,
        'wait_bucket{le="+Inf"}': 2,
        "wait_count": 2,
        "wait_sum": 3,
    }


def test_of_an_ended_process_the_counts_last_and_the_states_do_not() -> None:
    retired = lasting(process(3, 9, 10))
    shown = page(merge([retired, process(4, 1, 2)]))
    assert shown['queries_total{kind="A"}'] == 7
    assert shown["wait_count"] == 2
    assert (shown["age"], shown["open"]) == (1, 2)
    assert page(merge([merge([retired, lasting(process(4, 1, 2))])])) == {
        name: value for name, value in shown.items() if name not in ("age", "open")
    }
