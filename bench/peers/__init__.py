"""Other ways to collect a topic into Parquet files, measured beside ours."""
