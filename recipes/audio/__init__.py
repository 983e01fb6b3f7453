"""Recipes for raw audio."""
