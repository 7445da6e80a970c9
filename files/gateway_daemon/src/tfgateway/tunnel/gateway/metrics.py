"""The metrics of the tunnels."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class TunnelMetrics:
    """What the other parts of the package count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registrations = Counter(
            "tfgateway_tunnel_registrations",
            "Clients by what became of them: new, reconnected, early, rejected, or moved from another worker",
            ["outcome"],
            registry=registry,
        )
        self.refusals = Counter(
            "tfgateway_tunnel_refusals",
            "Clients that did not register by reason: handshake, unknown_secret (it may become known), silent, crowded",
            ["reason"],
            registry=registry,
        )
        self.takeovers = Counter(
            "tfgateway_tunnel_takeovers", "Clients replaced by a newer one with the same secret", registry=registry
        )
        self.ended = Counter("tfgateway_tunnel_sessions_ended", "Sessions that have ended", registry=registry)
        self.visits = Counter(
            "tfgateway_tunnel_streams", "Visitors whose stream has ended", ["outcome"], registry=registry
        )
        transferred = Counter("tfgateway_tunnel_bytes", "Bytes of visitors", ["direction"], registry=registry)
        self.bytes_to_client = transferred.labels("to_client")
        self.bytes_to_visitor = transferred.labels("to_visitor")
        self._up = Gauge("tfgateway_tunnels", "Clients connected with a known secret", registry=registry)
        self._early = Gauge("tfgateway_tunnels_early", "Clients held until their secret is known", registry=registry)
        self._streams = Gauge("tfgateway_tunnel_streams_active", "Visitors in a tunnel now", registry=registry)

    def watch(self, *, up: Callable[[], float], early: Callable[[], float], streams: Callable[[], float]) -> None:
        """Where the gauges are read when they are scraped."""
        self._up.set_function(up)
        self._early.set_function(early)
        self._streams.set_function(streams)
