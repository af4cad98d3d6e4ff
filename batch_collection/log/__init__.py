"""The log: entries, stubs of what expired, and the batches that they name."""
