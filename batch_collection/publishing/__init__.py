"""What changes a collection: entries made visible, entries of commands, expiry."""
