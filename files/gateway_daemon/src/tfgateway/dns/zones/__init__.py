"""Zones in memory, and how they are loaded from redis."""
