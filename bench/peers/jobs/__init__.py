"""What the peers run, by their own Python."""
