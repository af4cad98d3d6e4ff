"""Read the rows of a view: in order, by sides of a split, or as they are committed."""
