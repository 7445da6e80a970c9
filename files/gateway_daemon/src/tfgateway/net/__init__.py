"""The network: addresses, internationalised names, TCP sockets."""
