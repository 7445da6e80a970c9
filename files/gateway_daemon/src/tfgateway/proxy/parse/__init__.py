"""Parsers of the first bytes of a connection: ClientHello, HTTP head, PROXY header. Pure."""
