"""Octets between two connected sockets."""
