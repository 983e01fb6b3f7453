"""Pretraining on the genomes of six prokaryotes."""
