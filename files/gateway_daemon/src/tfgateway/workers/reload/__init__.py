"""Reloads: another configuration or release is prepared, performed, and takes over in the same process."""
