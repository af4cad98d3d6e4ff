"""Flags, and the options that they become, checked in one place."""
