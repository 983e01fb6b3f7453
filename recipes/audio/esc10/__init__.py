"""ESC-10: environmental sounds, five official folds."""
