"""PostgreSQL: one database, any number of explorers (replicas) that serve it."""
