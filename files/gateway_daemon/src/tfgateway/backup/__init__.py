"""Encrypted backups of a gateway that only its operator can read: redis data and seed in one file."""
