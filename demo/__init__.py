"""`make demo`: what the collection does, shown on a fleet in local containers."""
