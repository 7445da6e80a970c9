"""Bytes between two connected sockets."""
