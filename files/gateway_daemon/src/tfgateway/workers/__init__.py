"""What every long-running process shares: signals, readiness, watchdog."""
