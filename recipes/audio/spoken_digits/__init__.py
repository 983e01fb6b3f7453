"""Spoken digits, by held-out speaker."""
