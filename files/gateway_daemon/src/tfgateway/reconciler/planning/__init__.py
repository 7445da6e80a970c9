"""Pure planning: what is wanted, what is recorded and what redis holds become a plan of transactions."""
