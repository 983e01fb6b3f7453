"""The command line: one module a verb; nothing here imports torch before a verb runs."""
