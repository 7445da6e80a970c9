"""Who a request comes from, and whether a gateway serves the domains that it names."""
