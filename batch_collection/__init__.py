"""Read the batches of a collection; imports neither Beam nor Kafka.

Example:
    for batch in batch_collection.open("collected/batch-topic").follow(cursor="my-group"):
        process(batch.table())
"""

from __future__ import annotations

from batch_collection.collection import Collection, Window, open, open_spec  # noqa: A004
from batch_collection.errors import (
    AlreadyExistsError,
    CollectionError,
    DataLossError,
    LogError,
    OtherCollectorError,
    StorageError,
)
from batch_collection.log.batch import Batch
from batch_collection.training.batches import Batches

__all__ = [
    "AlreadyExistsError",
    "Batch",
    "Batches",
    "Collection",
    "CollectionError",
    "DataLossError",
    "LogError",
    "OtherCollectorError",
    "StorageError",
    "Window",
    "__version__",
    "open",
    "open_spec",
]

__version__ = "0.1.0"
