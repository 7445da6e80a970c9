"""The copy on disk of what a plane serves, from which it starts while redis is away."""
