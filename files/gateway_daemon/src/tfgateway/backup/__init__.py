"""Copies of a gateway that only its operator can read: its redis data and its seed in one encrypted file."""
