"""The way to a target: choice, dialling, health checks."""
