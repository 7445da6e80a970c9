"""Links between the workers of one gateway, over which visitors and sessions move."""
