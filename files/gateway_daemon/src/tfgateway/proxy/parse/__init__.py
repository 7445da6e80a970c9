"""Parsers of what visitors send first: ClientHello, HTTP head, PROXY header. Pure."""
