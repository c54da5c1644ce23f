"""Parametric furniture: each function draws one example of its category from a random generator."""
