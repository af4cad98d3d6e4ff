"""Other ways to read batches of a collection's files for training, measured beside ours."""
