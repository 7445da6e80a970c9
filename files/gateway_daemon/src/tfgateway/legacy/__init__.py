"""An installation of the old programs on this host: what they were told, compared with what we are told."""
