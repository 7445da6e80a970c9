"""What DNS says of the domains of reservations: looked up outside planning, kept with its age, passed in."""
