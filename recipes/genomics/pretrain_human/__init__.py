"""Pretraining on a part of the human genome."""
