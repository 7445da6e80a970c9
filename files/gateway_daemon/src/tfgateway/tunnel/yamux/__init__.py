"""The multiplexing protocol of the tunnels (spec tcprouter §8): bytes in, events and bytes out."""
