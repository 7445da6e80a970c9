"""What the explorer keeps, in SQLite."""
