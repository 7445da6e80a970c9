"""Identities: seed file, mnemonic, keys, node id, sealed secrets. Imports only the base of this package."""
