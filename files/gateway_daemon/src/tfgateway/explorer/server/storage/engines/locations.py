"""Which engine a location names."""

from __future__ import annotations

from pathlib import Path

from tfgateway.explorer.server.storage.engines.engine import Engine
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine


def engine(location: str) -> Engine:
    """The engine for what ``--database`` says."""
    return SqliteEngine(Path(location))
