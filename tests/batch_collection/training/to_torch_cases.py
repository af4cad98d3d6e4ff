"""PyTorch: tensors, loader workers, saved places, and a model that learns from what was collected.

Run by ``test_frameworks.py``, in a process of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from tests.tables import TableCollector, numbered

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.collection import Collection

import torch
from torch.utils.data import DataLoader

pytestmark = [
    # forked workers in a process with threads: Python warns, and PyTorch does it by default
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes"),
]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Return 103 rows in three files."""
    collector = TableCollector.at(tmp_path_factory.mktemp("view"), row_group=16)
    return collector.collect((0, numbered(0, 40)), (1, numbered(40, 70)), (2, numbered(70, 103)))


def ids(batches: Any) -> list[list[int]]:
    """Return the ids in each batch."""
    return [batch["id"].tolist() for batch in batches]


def test_columns_are_tensors_text_is_a_list(tmp_path: Path) -> None:
    """Instants are microseconds; what PyTorch has no unsigned type for is wider."""
    rows = pa.table(
        {
            "f": pa.array([0.5, 1.5], pa.float32()),
            "u": pa.array([1, 2**32 - 1], pa.uint32()),
            "t": pa.array([1, 2], pa.timestamp("ms", "UTC")),
            "s": ["a", "b"],
            "l": [[1, 2], [3]],
        }
    )
    (batch,) = TableCollector.at(tmp_path).collect((0, rows)).to_torch(4)

    assert batch["f"].dtype == torch.float32
    assert batch["u"].tolist() == [1, 2**32 - 1]
    assert batch["t"].tolist() == [1000, 2000]
    assert batch["s"] == ["a", "b"]
    assert [row.tolist() for row in batch["l"]] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("shuffle", "workers", "context"), [(None, 4, "fork"), (3, 4, "fork"), (3, 2, "spawn")]
)
def test_many_workers_give_the_batches_that_one_gives(
    view: Collection, shuffle: int | None, workers: int, context: str
) -> None:
    """Each once, of exactly n rows, however a worker is started."""
    batches = view.to_torch(10, columns=["id"], shuffle=shuffle, shuffle_buffer=32)
    loader = DataLoader(
        batches, batch_size=None, num_workers=workers, multiprocessing_context=context
    )
    alone = ids(view.to_torch(10, columns=["id"], shuffle=shuffle, shuffle_buffer=32))

    assert sorted(ids(loader)) == sorted(alone)
    assert len(loader) == len(alone) == 11


def test_workers_of_two_trainers_share_nothing(view: Collection) -> None:
    """Shards first, then workers."""
    found = [
        ids(DataLoader(view.to_torch(7, columns=["id"], shard=(i, 2)), None, num_workers=2))
        for i in range(2)
    ]

    rows = [row for shard in found for batch in shard for row in batch]
    assert sorted(rows) == list(range(103))


def test_persistent_workers_go_on_to_the_next_epoch(view: Collection) -> None:
    """Another order each, all rows in each; others begin with the epoch that was set."""
    options: dict[str, Any] = {"columns": ["id"], "shuffle": 1, "shuffle_buffer": 32}
    batches = view.to_torch(10, **options)
    loader = DataLoader(batches, batch_size=None, num_workers=2, persistent_workers=True)
    first, second = ids(loader), ids(loader)
    batches = view.to_torch(10, **options)
    batches.set_epoch(1)
    third = ids(DataLoader(batches, batch_size=None, num_workers=2))

    assert sorted(row for batch in second for row in batch) == list(range(103))
    assert first != second
    assert second == third


def test_a_place_is_saved_and_restored(view: Collection) -> None:
    """In the middle of an epoch."""
    batches = view.to_torch(10, columns=["id"], shuffle=1)
    running = iter(batches)
    for _ in range(4):
        next(running)
    resumed = view.to_torch(10, columns=["id"], shuffle=1)
    resumed.load_state_dict(batches.state_dict())

    assert ids(resumed) == ids(running)


def test_a_model_learns_what_a_constant_cannot(tmp_path: Path) -> None:
    """A line through noise, over shuffled epochs: the loss comes near the noise's own."""
    view = TableCollector.at(tmp_path).collect(*((minute, line(minute)) for minute in range(4)))
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = view.to_torch(50, shuffle=1, repeat=5, casts={"x": "float32", "y": "float32"})
    for batch in batches:
        loss = torch.nn.functional.mse_loss(model(batch["x"][:, None])[:, 0], batch["y"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    table = view.to_arrow(["x", "y"])
    x, y = (torch.from_numpy(table[name].to_numpy().astype(np.float32)) for name in ("x", "y"))
    with torch.no_grad():
        loss = float(torch.nn.functional.mse_loss(model(x[:, None])[:, 0], y))
    constant = float(y.var())
    assert loss < 0.02 < constant / 100


def line(minute: int) -> pa.Table:
    """Return 500 points near ``y = 3 x + 1``; a variance of 0.01 is noise, the rest is not."""
    rng = np.random.default_rng(minute)
    x = rng.normal(size=500)
    return pa.table({"x": x, "y": 3 * x + 1 + 0.1 * rng.normal(size=500)})
