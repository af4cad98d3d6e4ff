"""Look at a collection: its account held against its files, and how it stands."""
