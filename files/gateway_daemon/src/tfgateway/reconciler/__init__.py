"""From what the explorer wants to what redis holds: plan, apply, report (provision-engine)."""
