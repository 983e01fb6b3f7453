"""Which substitutions in genes of E. coli make a stop codon, from pairs of alleles."""
