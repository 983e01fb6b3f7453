"""Protein-coding against intergenic windows of bacterial genomes."""
