"""The command line: one thin command a file, loaded only when it is called."""
