"""A self-hosted explorer: the endpoints of spec explorer-api §4 on SQLite."""
