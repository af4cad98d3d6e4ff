"""Copies of a view in the forms of other tools."""
