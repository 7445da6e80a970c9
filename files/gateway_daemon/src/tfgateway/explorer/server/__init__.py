"""A self-hosted explorer: the endpoints of the original on SQLite."""
