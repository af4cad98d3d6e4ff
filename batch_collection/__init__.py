"""Read the batches of a collection; imports neither Beam nor Kafka.

Example:
    >>> import batch_collection
    >>> for batch in batch_collection.open("collected/orders").follow("group", once=True):
    ...     print(batch.id, batch.table().num_rows)
    0000000001-0000 2
    0000000002-0000 1
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


def __dir__() -> list[str]:
    """List what users may call."""
    return sorted(__all__)
