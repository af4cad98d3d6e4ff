"""Where files lie: a directory or a bucket, behind one contract."""
