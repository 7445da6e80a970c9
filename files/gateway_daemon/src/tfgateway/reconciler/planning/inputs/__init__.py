"""What a plan is made of: the explorer's reservations, our records, and the rows of redis. Pure."""
