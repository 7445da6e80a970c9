"""What only looks: facts of each reservation, and the verdict that ``tfgateway state`` shows."""
