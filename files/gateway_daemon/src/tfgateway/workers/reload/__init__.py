"""Another configuration or release takes over: prepared, performed, and taken over in the same process."""
