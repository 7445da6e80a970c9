"""What an operator does with a database besides serving it."""
