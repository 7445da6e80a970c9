"""The copy on disk, from which a plane starts while redis is away."""
