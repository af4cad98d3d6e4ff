"""Batches become staged files."""
