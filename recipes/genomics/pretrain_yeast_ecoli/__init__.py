"""Pretraining on baker's yeast and E. coli."""
