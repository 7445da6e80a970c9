"""A live copy of the redis keys that a data plane needs: snapshot, then pushed changes, re-snapshot after a gap."""

from tfgateway.mirror.keeper import Keeper
from tfgateway.mirror.mirror import FieldSink, Mirror, Sink
from tfgateway.mirror.selection import Selection

__all__ = ["FieldSink", "Keeper", "Mirror", "Selection", "Sink"]
