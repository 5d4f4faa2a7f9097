"""A rented machine that is reached over SSH: nothing about where it was rented."""
