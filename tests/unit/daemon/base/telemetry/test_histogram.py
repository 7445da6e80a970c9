"""The histogram, as Prometheus gets it: cumulative buckets, the sum, and the bounds as the library writes them."""

from __future__ import annotations

from tfgateway.telemetry.histogram import Histogram


def samples(histogram: Histogram) -> dict[str, float]:
    family = histogram.family("took_seconds", "Time.")
    return {sample.labels.get("le", sample.name): sample.value for sample in family.samples}


def test_an_empty_one() -> None:
    assert samples(Histogram((0.00005, 1, 2.5))) == {
        "5e-05": 0,
        "1.0": 0,
        "2.5": 0,
        "+Inf": 0,
        "took_seconds_count": 0,
        "took_seconds_sum": 0,
    }


def test_buckets_are_cumulative_and_have_their_upper_bound() -> None:
    histogram = Histogram((1, 2.5))
    histogram.add(1)
    histogram.add(2, count=3)
    histogram.add(100)
    assert len(histogram) == 5
    assert samples(histogram) == {"1.0": 1, "2.5": 4, "+Inf": 5, "took_seconds_count": 5, "took_seconds_sum": 107}
