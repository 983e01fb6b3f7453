"""Which bases of a bacterial genome code for proteins, on which strand and in which frame."""
