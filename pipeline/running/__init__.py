"""Drives that run plan after plan: here, or on an engine."""
