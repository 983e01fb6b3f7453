"""The bases in front of a gene against those further upstream, in the fruit fly."""
