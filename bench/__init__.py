"""Measurements: what is printed is rows a second, and ratios; nothing is asserted."""
