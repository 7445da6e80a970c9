"""The commands of the data planes."""
