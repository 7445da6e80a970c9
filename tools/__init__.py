"""What ``make`` calls: setting up a machine, and running every test."""
