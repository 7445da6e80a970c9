"""Structured logs and metrics. Imports nothing of ours but errors and settings."""
