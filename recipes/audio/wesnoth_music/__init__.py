"""Two hours of music: generation, and reading with a carried state."""
