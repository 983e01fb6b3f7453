"""Phones of a Russian reader: tagged frame by frame, and classified segment by segment."""
