"""Reverse tunnels: a client behind NAT connects to the gateway, and visitors reach its service through it."""
