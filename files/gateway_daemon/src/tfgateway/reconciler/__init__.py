"""The reconciler: plans from what the explorer wants, applies the plan to redis, reports results."""
