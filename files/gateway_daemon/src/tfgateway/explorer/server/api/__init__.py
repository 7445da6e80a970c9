"""The endpoints of spec explorer-api §4, one module a resource."""
