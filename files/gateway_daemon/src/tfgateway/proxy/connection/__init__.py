"""An accepted connection: its states, the visitor's side, the way to its target, and what all of a worker share."""
