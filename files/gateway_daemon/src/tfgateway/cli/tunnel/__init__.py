"""``tfgateway tunnel``: the tunnel client."""
