"""Pub/Sub: what is handed out, kept until it is durable, and remembered so that it counts once."""
