"""What the workers of one gateway say and hand over to each other."""
