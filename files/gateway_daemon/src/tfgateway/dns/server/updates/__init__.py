"""Updates by users: handed to the reconciler, and answered when they are durable."""
