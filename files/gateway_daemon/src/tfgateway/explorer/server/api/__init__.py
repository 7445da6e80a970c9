"""The endpoints of the explorer, one module a resource."""
