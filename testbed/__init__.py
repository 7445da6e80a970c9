"""A fleet in containers, an explorer, gateway nodes and their users: for molecule, the tests and the demo."""
