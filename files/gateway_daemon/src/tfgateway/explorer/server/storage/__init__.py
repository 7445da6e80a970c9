"""Storage of the explorer in SQLite."""
