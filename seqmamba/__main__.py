"""`python -m seqmamba` is the ``seqmamba`` command."""

from seqmamba.cli.main import entry_point

entry_point()
