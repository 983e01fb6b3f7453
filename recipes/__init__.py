"""Recipes: one folder for a dataset and its model, found by `seqmamba recipes`."""
