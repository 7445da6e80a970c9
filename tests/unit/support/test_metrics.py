"""Reading a metrics page as Prometheus' own library writes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from tests.support import metrics


@pytest.fixture
def port() -> Iterator[int]:
    registry = CollectorRegistry()
    Counter("visits", "Visits.", ["host", "port"], registry=registry).labels("a b", "80").inc(3)
    Gauge("age", "Age.", registry=registry).set(float("inf"))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_all_values_by_name_and_labels(port: int) -> None:
    found = metrics.scrape(port)
    assert found['visits_total{host="a b",port="80"}'] == 3
    assert found["age"] == float("inf")


def test_one_value_whatever_the_order_of_its_labels(port: int) -> None:
    assert metrics.value(port, "visits_total", port="80", host="a b") == 3
    assert metrics.value(port, "visits_total", port="80") == 0
    assert metrics.value(port, "age") == float("inf")
