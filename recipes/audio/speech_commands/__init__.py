"""Thirty-five spoken words, at 16 and at 8 kHz."""
