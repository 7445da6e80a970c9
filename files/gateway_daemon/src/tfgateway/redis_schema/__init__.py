"""Every redis key and value, encoded and decoded here and nowhere else. Imports nothing of ours but the base."""
