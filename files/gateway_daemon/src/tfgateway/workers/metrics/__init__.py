"""One metrics page for all workers of a plane."""
