"""Species of a stretch of a strain that was never seen, against the length of the stretch."""
