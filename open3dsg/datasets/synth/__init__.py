"""Furnished rooms with exact ground truth, rendered and written in the layout of 3RScan."""
