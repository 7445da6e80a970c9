"""The explorer: its objects, its signatures, a client, a user's side and a self-hosted server."""
