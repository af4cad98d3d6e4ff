"""Kafka: the only room that knows its client."""
