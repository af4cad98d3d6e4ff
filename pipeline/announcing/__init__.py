"""Telling others that windows are closed."""
