"""The way to a target: choice, dialling, failover."""
