"""Metrics of the reconciler."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from tfgateway.reconciler.planning.model import Action
from tfgateway.reconciler.planning.proofs import Proof


class ReconcilerMetrics:
    """Names begin with ``tfgateway_reconciler_``; times are Unix seconds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"tfgateway_reconciler_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"tfgateway_reconciler_{name}", text, labels, registry=registry)

        self.leader = gauge("leader", "1 while this process holds the lease; 0: it stands by, or waits for redis")
        self.standby = gauge("standby", "1 while the reconciler of another member of the group holds the lease")
        self.replica_lag = gauge(
            "replica_lag_seconds",
            "In a group, since this node's redis last received of the master; +Inf: not connected",
        )
        self.sentinels = gauge("sentinels", "In a group, how many Sentinels there are")
        self.sentinels_agreeing = gauge("sentinels_agreeing", "In a group, how many Sentinels name the same master")
        self.last_poll = gauge("last_poll_seconds", "Unix time of the last poll of the explorer")
        self.last_success = gauge("last_success_seconds", "Unix time of the last poll and pass that succeeded")
        self.failing = gauge("failing", "1 while the last poll or pass failed: `tfgateway state` shows the error")
        self._verdicts = gauge("verdicts", "Reservations by verdict, without asking the planes", ("verdict",))
        self.polls_failed = counter("polls_failed", "Polls of the explorer that failed")
        self.passes_failed = counter("passes_failed", "Passes that redis or a bug ended early")
        self.outbox = gauge("outbox", "Answers that the explorer has not acknowledged")
        self.clock_ahead = gauge("clock_ahead_seconds", "How far our clock is ahead of the explorer's; below 0: behind")
        self.directory_refused = gauge(
            "directory_refused", "1 while the explorer refuses the gateway's entry: `tfgateway state` shows the reason"
        )
        self.problems = gauge("problems", "Lines of trouble in the last plan")
        self.held = gauge("removals_held", "1 while a plan would remove more than it may")
        self.pass_seconds = gauge("pass_seconds", "How long the last pass took")
        self._reservations = gauge("reservations", "Recorded reservations", ("type",))
        self._proofs = gauge("proofs", "Proxies outside all zones by what DNS proves", ("proof",))
        self._steps = counter("steps", "Steps that were carried out", ("action",))
        self.steps_failed = counter("steps_failed", "Steps that redis did not take", ("action",))
        for action in Action:
            self._steps.labels(action)
            self.steps_failed.labels(action)

    def done(self, action: Action) -> None:
        """Count a step that was applied."""
        self._steps.labels(action).inc()

    def verdicts(self, counts: Mapping[str, int]) -> None:
        """Set the number of reservations of each verdict; all verdicts are given."""
        for name, count in counts.items():
            self._verdicts.labels(name).set(count)

    def proofs(self, counts: Mapping[Proof, int]) -> None:
        """Set the number of proxies outside all zones by what DNS proves."""
        for proof in Proof:
            self._proofs.labels(proof).set(counts.get(proof, 0))

    def reservations(self, counts: Mapping[str, int]) -> None:
        """Set the number of recorded reservations of each type."""
        self._reservations.clear()
        for name, count in counts.items():
            self._reservations.labels(name).set(count)
