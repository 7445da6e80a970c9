"""Who we are: seed file, mnemonic, keys, node id, sealed secrets. Imports nothing of ours but the base."""
