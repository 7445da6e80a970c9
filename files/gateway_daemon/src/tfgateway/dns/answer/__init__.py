"""Answering a query: lookup, fast path, rate limiting, zone transfer. Pure."""
