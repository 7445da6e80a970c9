"""Messages between a supervisor and its workers."""
