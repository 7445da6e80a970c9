"""The tunnel client: keeps sessions with gateways, and relays their visitors to local services."""
