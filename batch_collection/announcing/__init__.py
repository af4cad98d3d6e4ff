"""When windows are closed and visible, in the order of the log."""
