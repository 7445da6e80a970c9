"""The reconciler's side of the explorer: polling, registration, public keys of users."""
