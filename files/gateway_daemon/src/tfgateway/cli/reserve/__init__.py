"""``tfgateway reserve``: a user's reservations."""
