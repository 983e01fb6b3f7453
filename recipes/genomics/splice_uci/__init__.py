"""Donor and acceptor sites of primate genes in 60 bases."""
