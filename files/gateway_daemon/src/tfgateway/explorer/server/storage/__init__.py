"""Storage of the explorer in SQLite or PostgreSQL."""
