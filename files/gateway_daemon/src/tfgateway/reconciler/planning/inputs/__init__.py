"""Inputs of a plan: the explorer's reservations, our records, and the rows of redis. Pure."""
