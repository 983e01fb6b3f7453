"""Four hours of piano, generated as SaShiMi and Mamba generate it."""
