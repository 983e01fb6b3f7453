"""Pretraining on spoken digits without labels, and fine-tuning on few."""
