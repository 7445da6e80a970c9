"""The machines of the fleet: images, their interpreters and releases, networks and containers."""
