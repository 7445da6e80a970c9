"""From a query to its response: lookup, fast path, rate limiting, zone transfer. Pure."""
