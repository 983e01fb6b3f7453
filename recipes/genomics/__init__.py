"""Recipes for DNA."""
