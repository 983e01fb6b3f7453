"""Genomic Benchmarks: nine sets of intervals."""
