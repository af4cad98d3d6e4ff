"""PyTorch: tensors, loader workers, saved places, and a model that learns from what was collected.

Run by ``test_frameworks.py``, in a process of their own.
"""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from batch_collection.errors import CollectionError
from tests.tables import TableCollector, numbered

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.collection import Collection

import torch
from torch.utils.data import DataLoader

pytestmark = [
    # forked workers in a process with threads: Python warns, and PyTorch does it by default
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create [34] worker processes"),
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


def test_a_batch_is_written_to_without_a_trace_in_others(tmp_path: Path) -> None:
    """Neither in their values, nor in gradients of theirs that are still to come, nor saved."""
    rows = pa.table({"x": np.arange(4000.0)})
    one, other, *_ = TableCollector.at(tmp_path).collect((0, rows)).to_torch(4)
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    loss = (weight * one["x"]).sum()
    other["x"].mul_(weight)
    loss.backward()
    saved = io.BytesIO()
    torch.save(one, saved)

    assert weight.grad.tolist() == one["x"].tolist() == [0, 1, 2, 3]
    assert len(saved.getvalue()) < 4000


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


@pytest.mark.parametrize("workers", [0, 2])
def test_groups_that_workers_hand_over_are_cut_into_the_same_batches(
    view: Collection, workers: int
) -> None:
    """As the docs cut them; those of several workers come in turn."""
    loader = DataLoader(view.to_torch(4 * 8), batch_size=None, num_workers=workers)
    found = [part.tolist() for group in loader for part in group["id"].split(8)]

    assert sorted(found) == ids(view.to_torch(8))
    assert workers or found == sorted(found)


def test_workers_of_two_trainers_share_nothing(view: Collection) -> None:
    """Shards first, then workers."""
    found = [
        ids(DataLoader(view.to_torch(7, columns=["id"], shard=(i, 2)), None, num_workers=2))
        for i in range(2)
    ]

    rows = [row for shard in found for batch in shard for row in batch]
    assert sorted(rows) == list(range(103))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("is_persistent", [False, True])
def test_each_epoch_has_another_order_with_any_workers(
    view: Collection,
    workers: int,
    is_persistent: bool,  # noqa: FBT001
) -> None:
    """The same epochs as without workers, also the one that was set, and one that was left."""
    options: dict[str, Any] = {"columns": ["id"], "shuffle": 1, "shuffle_buffer": 32, "repeat": 2}
    batches = copy.deepcopy(view.to_torch(10, **options))
    alone = view.to_torch(10, **options)
    kept = {"persistent_workers": True} if is_persistent and workers else {}
    loader = DataLoader(batches, batch_size=None, num_workers=workers, **kept)
    expected = [sorted(ids(alone)) for _ in range(3)]

    assert sorted(ids(loader)) == expected[0]
    for _ in loader:
        break
    assert sorted(ids(loader)) == expected[1]
    batches.set_epoch(0)
    assert sorted(ids(loader)) == expected[0]
    batches.set_epoch(4)
    assert sorted(ids(loader)) == expected[2]
    batches.set_epoch(2)
    assert sorted(ids(batches)) == expected[1]
    assert sorted(ids(loader)) == expected[2]


def test_epochs_go_on_with_another_loader_of_one_seed(view: Collection) -> None:
    """As where all is seeded anew before each epoch: the loops then have one name."""
    options: dict[str, Any] = {"columns": ["id"], "shuffle": 1, "shuffle_buffer": 32}
    batches, alone = view.to_torch(10, **options), view.to_torch(10, **options)
    for _ in range(3):
        torch.manual_seed(0)
        loader = DataLoader(batches, batch_size=None, num_workers=2)
        assert sorted(ids(loader)) == sorted(ids(alone))


def test_a_place_beside_workers_is_refused(view: Collection) -> None:
    """It would be the beginning, and so rows would come again."""
    batches = view.to_torch(10, columns=["id"])
    for _ in DataLoader(batches, batch_size=None, num_workers=2):
        break
    with pytest.raises(CollectionError, match="known to the loader's workers only; use num_wor"):
        batches.state_dict()
    batches.set_epoch(3)
    assert batches.state_dict()["epoch"] == 3
    next(iter(batches))
    state = batches.state_dict()
    assert (state["epoch"], state["row"]) == (3, 10)

    resumed = view.to_torch(10, columns=["id"])
    resumed.load_state_dict(state)
    with pytest.raises(CollectionError, match="a state from within an epoch was loaded"):
        list(DataLoader(resumed, batch_size=None, num_workers=2))


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


def test_features_and_their_label_are_tensors(view: Collection) -> None:
    """Through a loader with workers, too."""
    for workers in (0, 2):
        loader = DataLoader(view.to_torch(10, label="id"), batch_size=None, num_workers=workers)
        pairs = list(loader)
        assert all(list(features) == ["device"] for features, _ in pairs)
        assert sorted(row for _, label in pairs for row in label.tolist()) == list(range(103))


def test_pytorch_follows_a_log(tmp_path: Path) -> None:
    """What is new, each row once; workers would each have a cursor of one name."""
    collector = TableCollector.at(tmp_path)
    view = collector.collect((0, numbered(0, 30)))

    loader = DataLoader(view.follow("a", once=True).to_torch(8, columns=["id"]), batch_size=None)
    assert [row for batch in loader for row in batch["id"].tolist()] == list(range(30))
    collector.collect((0, numbered(30, 35)))
    assert ids(view.follow("a", once=True).to_torch(8, columns=["id"])) == [[*range(30, 35)]]
    followed = view.follow("b", once=True).to_torch(8)
    with pytest.raises(CollectionError, match="follow with num_workers=0"):
        list(DataLoader(followed, batch_size=None, num_workers=1))


def test_sequences_are_tensors(tmp_path: Path) -> None:
    """Of (sequences, rows); workers are refused."""
    rows = pa.table({"device": ["a"] * 6, "at": range(6), "y": [float(n) for n in range(6)]})
    sequences = TableCollector.at(tmp_path).collect((0, rows)).sequences("device", "at", length=3)
    batches = sequences.to_torch(2, columns=["at", "y"], label="y")

    found = list(DataLoader(batches, batch_size=None))
    assert [past["at"].tolist() for past, _ in found] == [[[0, 1, 2], [1, 2, 3]], [[2, 3, 4]]]
    assert [label.tolist() for _, label in found] == [[[3.0], [4.0]], [[5.0]]]
    past, future = next(iter(sequences.to_torch(2)))
    assert (past["y"].shape, future["y"].shape) == ((2, 3), (2, 1))
    with pytest.raises(CollectionError, match="num_workers=0"):
        list(DataLoader(batches, batch_size=None, num_workers=1))
