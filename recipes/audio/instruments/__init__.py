"""Single notes by instrument, out of a sound font."""
