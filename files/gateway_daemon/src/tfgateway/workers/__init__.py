"""Long-running processes: signals, readiness and watchdog of one; supervised workers of a plane that has several."""
