"""A session: one TCP connection, yamux in it, its streams joined to sockets."""
