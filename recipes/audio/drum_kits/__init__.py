"""Drum sounds by type, with every drum kit held out in turn."""
