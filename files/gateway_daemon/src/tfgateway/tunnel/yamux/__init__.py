"""The multiplexing protocol of the tunnels: bytes in, events and bytes out."""
