"""Russian speech of one reader, generated sample by sample."""
