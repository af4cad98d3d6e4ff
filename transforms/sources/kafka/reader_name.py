"""Which readers of Kafka there are; checking a flag needs no more."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

__all__ = ["READERS", "ReaderName", "is_built"]


ReaderName: TypeAlias = Literal["auto", "columnar", "portable"]
"""How messages are taken from librdkafka: gathered in C, by Python, or by the first that can be."""

READERS: tuple[ReaderName, ...] = get_args(ReaderName)


def is_built() -> bool:
    """Tell whether what gathers messages in C was compiled when this was installed."""
    return find_spec("transforms.sources.kafka.gather") is not None
