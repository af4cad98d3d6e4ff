"""What to read next: a topic, its collection, its plans."""
