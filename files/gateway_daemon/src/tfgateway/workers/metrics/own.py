"""Metrics of the supervisor itself: beside what its workers count, on the same page."""

from __future__ import annotations

from collections.abc import Mapping

from tfgateway.workers.metrics.merged import Family, gauge, total


def own_families(
    plane: str,
    *,
    wanted: int,
    serving: int,
    draining: int,
    generation: int,
    replaced: Mapping[str, int],
    reloads: Mapping[str, int],
) -> tuple[Family, ...]:
    """All families. wanted, serving, draining: workers; replaced: by reason; reloads: by outcome."""
    return (
        gauge("tfgateway_workers", "Workers that there should be", plane, wanted),
        gauge("tfgateway_workers_serving", "Workers that serve", plane, serving),
        gauge("tfgateway_workers_draining", "Workers of earlier generations that finish", plane, draining),
        gauge("tfgateway_generation", "Reloads since the start, the start included", plane, generation),
        total("tfgateway_worker_restarts", "Workers that had to be replaced", plane, replaced, "reason"),
        total("tfgateway_reloads", "Reloads and switches of the release", plane, reloads, "outcome"),
    )
