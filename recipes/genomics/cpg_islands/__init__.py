"""CpG islands of the human X chromosome as a binned track."""
