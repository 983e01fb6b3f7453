"""Scores of variants against what they do to the protein."""
