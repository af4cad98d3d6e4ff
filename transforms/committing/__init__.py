"""Reports become an entry, or a reason why not."""
