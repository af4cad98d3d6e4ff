"""Sums of a long log, so that nobody reads all of it, and what is gathered by them."""
