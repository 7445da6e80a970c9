"""An installation of the old programs on this host: its settings, compared with ours."""
