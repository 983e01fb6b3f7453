"""Generation of spoken digits, of a class, with 8-bit mu-law codes."""
