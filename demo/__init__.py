"""The local fleet: an explorer, a web server and gateway nodes in containers, for ``make demo`` and for molecule."""
