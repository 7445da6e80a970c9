"""A live copy of the redis keys that a data plane needs: snapshot, then pushed changes, re-snapshot after a gap."""

from tfgateway.mirror.metrics import HoldCollector, hold_metric
from tfgateway.mirror.mirror import Mirror
from tfgateway.mirror.selection import Selection
from tfgateway.mirror.snapshot_writer import SnapshotWriter
from tfgateway.mirror.target import FieldSink, Sink

__all__ = ["FieldSink", "HoldCollector", "Mirror", "Selection", "Sink", "SnapshotWriter", "hold_metric"]
