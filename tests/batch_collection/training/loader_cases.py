"""The loader: places that any number of ranks and workers go on from, alone and in DDP.

Run by ``test_frameworks.py``, in a process of their own.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import runpy
import socket
import subprocess
import sys
from collections import OrderedDict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

import batch_collection
from batch_collection.errors import CollectionError
from tests.batch_collection.training.to_torch_cases import ids, line
from tests.tables import TableCollector, numbered
from tests.tables import ids as all_ids
from tests.test_training_page import PAGE, collected, sections

if TYPE_CHECKING:
    from batch_collection.collection import Collection
    from batch_collection.training.loader import Loader

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes"),
]

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / "examples" / "train_elastic.py"
OPTIONS: dict[str, Any] = {"columns": ["id"], "shuffle": 1, "shuffle_buffer": 32}


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Return 103 rows in three files."""
    collector = TableCollector.at(tmp_path_factory.mktemp("view"), row_group=16)
    return collector.collect((0, numbered(0, 40)), (1, numbered(40, 70)), (2, numbered(70, 103)))


@pytest.fixture(scope="module")
def order(view: Collection) -> list[list[int]]:
    """Return the order of the rows of three epochs."""
    batches = view.to_torch(103, **OPTIONS)
    return [next(iter(ids(batches))) for _ in range(3)]


def loaders(view: Collection, world: int, **options: Any) -> list[Loader]:
    """Return the loaders of all ranks."""
    return [view.loader(rank=rank, world=world, **options) for rank in range(world)]


def in_step(ranks: list[Loader], rounds: int | None = None) -> list[int]:
    """Return the rows that ranks are handed out, round by round; all have as many rounds."""
    stopped = [list(islice(iter(loader), rounds)) for loader in ranks]
    rounds_ = zip(*map(ids, stopped), strict=True)
    return [row for shares in rounds_ for share in shares for row in share]


@pytest.mark.parametrize(
    "configurations",
    [
        [(1, 8), (8, 1), (3, 0)],
        [(2, 4), (7, 0), (1, 3)],
        [(5, 1), (4, 2), (6, 0)],
    ],
)
def test_a_place_is_gone_on_from_by_other_ranks_and_workers(
    view: Collection, order: list[list[int]], configurations: list[tuple[int, int]]
) -> None:
    """Twice in a row, in processes: each row that remains comes once, in the order of all."""
    found: list[int] = []
    state: Any = None
    for number, (world, workers) in enumerate(configurations):
        ranks = loaders(view, world, batch_size=3, workers=workers, **OPTIONS)
        for loader in ranks if state is not None else ():
            loader.load_state_dict(state)
        found += in_step(ranks, None if number == 2 else 2)
        states = [json.loads(json.dumps(loader.state_dict())) for loader in ranks]
        assert all(each == states[0] for each in states)
        state = states[0]
        assert state["row"] in {0, len(found)}

    assert found == order[0]
    assert (state["epoch"], state["row"]) == (1, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_has_another_order_and_loops_that_were_left_begin_again(
    view: Collection, order: list[list[int]], workers: int
) -> None:
    """The same epochs with any workers, whose processes stay; also the epoch that was set."""
    loader = view.loader(2, workers=workers, **OPTIONS)

    assert len(loader) == 52
    assert in_step([loader]) == order[0]
    assert loader.epoch == 1
    for _ in loader:
        break
    assert in_step([loader]) == order[1]
    assert in_step([loader]) == order[2]
    loader.set_epoch(1)
    assert in_step([loader], 20) == order[1][:40]
    loader.load_state_dict(loader.state_dict())
    assert in_step([loader]) == order[1][40:]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_place_behind_the_last_batch_is_the_end_of_its_epoch(
    view: Collection,
    order: list[list[int]],
    workers: int,
) -> None:
    """So that ``range(loader.epoch, epochs)`` counts no epoch twice, and leaves none out."""
    loader = view.loader(50, workers=workers, **OPTIONS)
    states = [loader.state_dict() for _ in loader]

    assert [state["row"] for state in states] == [50, 100, 103]
    loader.load_state_dict(states[-1])
    assert (loader.epoch, list(loader), loader.epoch) == (0, [], 1)
    assert in_step([loader]) == order[1]


def test_the_rest_is_shared_evenly_or_left_out(view: Collection) -> None:
    """All ranks have as many batches either way; drop_last may be another one later."""
    ranks = loaders(view, 2, batch_size=40, columns=["id"])
    assert [list(map(len, ids(loader))) for loader in ranks] == [[40, 11], [40, 12]]
    full = loaders(view, 2, batch_size=40, columns=["id"], drop_last=True)
    assert [list(map(len, ids(loader))) for loader in full] == [[40], [40]]
    assert [len(loader) for loader in (*ranks, *full)] == [2, 2, 1, 1]

    state = [loader.state_dict() for _ in zip(full[0], range(1), strict=False) for loader in full]
    for loader in ranks:
        loader.load_state_dict(state[0])
    assert in_step(ranks) == list(range(80, 103))


def test_fewer_rows_than_ranks_are_repeated_and_it_is_said(tmp_path: Path) -> None:
    """As no rank may wait for the others, and a batch of no rows has no loss."""
    view = TableCollector.at(tmp_path).collect((0, numbered(0, 3)))
    with pytest.warns(UserWarning, match="3 rows are left of epoch 0 for 8 ranks") as warned:
        found = [ids(loader) for loader in loaders(view, 8, batch_size=4, columns=["id"])]

    assert found == [[[0]], [[0]], [[0]], [[1]], [[1]], [[1]], [[2]], [[2]]]
    assert {Path(each.filename).name for each in warned} == {"to_torch_cases.py"}  # their loop
    full = view.loader(4, rank=0, world=8, drop_last=True)
    assert list(full) == []
    with pytest.warns(UserWarning, match="drop_last=True leaves such rows out"):
        assert in_step(loaders(view, 2, batch_size=1, columns=["id"])) == [0, 1, 2, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_mapped_and_brought_to_a_device(view: Collection, workers: int) -> None:
    """What ``map`` returns is handed out as it is, whatever it holds."""
    loader = view.loader(40, workers=workers, columns=["id", "device"], map=doubled)
    batch = next(iter(loader))

    assert sorted(batch) == ["array", "device", "half", "id", "own", "pair", "text"]
    assert batch["id"].tolist() == [2 * row for row in range(40)]
    assert batch["device"] == [f"d{row % 7}" for row in range(40)]
    assert (batch["half"].dtype, batch["half"].shape) == (torch.bfloat16, (40,))
    assert isinstance(batch["array"], np.ndarray)
    assert batch["text"] == "x"
    assert isinstance(batch["pair"], tuple)
    assert isinstance(batch["own"], OrderedDict)
    assert batch["own"]["id"].tolist() == batch["id"].tolist()
    batch["pair"][0][0] += 1  # they can be written to
    there = view.loader(40, workers=workers, map=doubled, device="meta", pin_memory=True)
    batch = next(iter(there))
    assert [batch[name].device.type for name in ("id", "half")] == ["meta", "meta"]
    assert batch["pair"][1].device.type == batch["own"]["id"].device.type == "meta"


def doubled(batch: dict[str, Any]) -> dict[str, Any]:
    """Return twice the ids, and values of many kinds."""
    twice = 2 * batch["id"]
    return {
        "id": twice,
        "device": batch["device"],
        "half": twice.to(torch.bfloat16),
        "array": twice.numpy(),
        "text": "x",
        "pair": (twice.clone(), twice.float().mean()),
        "own": OrderedDict(id=twice),
    }


def test_a_map_that_fails_fails_in_the_loop(view: Collection) -> None:
    """And the loop can be begun again."""
    loader = view.loader(16, workers=1, columns=["id"], map=Once())
    with pytest.raises(RuntimeError, match="the third time"):
        list(loader)

    assert sum(len(batch["id"]) for batch in loader) == 103


class Once:
    """A map that fails the third time."""

    def __init__(self) -> None:
        """Begin to count."""
        self.calls = 0

    def __call__(self, batch: Any) -> Any:
        """Return the batch, but once."""
        self.calls += 1
        if self.calls == 3:
            message = "the third time"
            raise RuntimeError(message)
        return batch


def test_a_loader_reads_what_views_show(view: Collection) -> None:
    """Sides of splits, filters, orders of windows; labels."""
    side = view.split({"a": 0.5, "b": 0.5}, by="device")["a"]
    assert in_step(loaders(side, 3, batch_size=4, columns=["id"])) == all_ids(side)
    late = view.where(pc.field("id") > 50)
    assert in_step(loaders(late, 3, batch_size=4, columns=["device", "id"])) == list(range(51, 103))
    assert [len(loader) for loader in loaders(late, 3, batch_size=4)] == [5, 5, 5]
    ordered = loaders(view, 3, batch_size=4, columns=["id"], order_by="id")
    assert in_step(ordered) == list(range(103))
    features, label = next(iter(view.loader(5, columns=["device"], label="id")))
    assert (list(features), label.tolist()) == (["device"], [0, 1, 2, 3, 4])


def test_a_state_of_another_order_is_refused(view: Collection, tmp_path: Path) -> None:
    """Those of shards by name; those of another seed, or of rows that came later."""
    loader = view.loader(10, **OPTIONS)
    sharded = view.to_torch(10, shard=(0, 2), **OPTIONS).state_dict()
    with pytest.raises(
        CollectionError, match=re.escape("of batches with shard=[0, 2]; load it in")
    ):
        loader.load_state_dict(sharded)
    with pytest.raises(CollectionError, match="not a state of batches"):
        view.to_torch(10, **OPTIONS).load_state_dict(loader.state_dict())
    with pytest.raises(CollectionError, match="saved with shuffle=1, this has 2"):
        view.loader(10, **{**OPTIONS, "shuffle": 2}).load_state_dict(loader.state_dict())
    with pytest.raises(CollectionError, match="not a state of a loader: it has no 'epoch'"):
        loader.load_state_dict({})
    with pytest.raises(CollectionError, match="not a state of a loader, which is a mapping: None"):
        loader.load_state_dict(None)  # type: ignore[arg-type]
    with pytest.raises(CollectionError, match="row must be at least 0, got -1"):
        loader.load_state_dict({**loader.state_dict(), "row": -1})
    collector = TableCollector.at(tmp_path)
    state = collector.collect((0, numbered(0, 9))).loader(2).state_dict()
    with pytest.raises(CollectionError, match=re.escape("with open(...).at(cycle=1)")):
        collector.collect((0, numbered(9, 12))).loader(2).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"workers": 1.0}, "workers must be a whole number, got 1.0"),
        ({"map": "x"}, "map must be a function of a batch, got 'x'"),
        ({"pin_memory": 1}, "pin_memory must be True or False, got 1"),
        ({"device": "gpu0"}, "device must be one of PyTorch's, as 'cpu' or 'cuda:0', got 'gpu0'"),
        ({"rank": 1}, "rank and world go together, got rank=1 world=None"),
        ({"rank": 2, "world": 2}, "rank must be from 0 to world - 1, got rank=2 world=2"),
        ({"shuffle": True}, "shuffle must be a seed, as 1, or None for no shuffle, got True"),
        ({"shard": (0, 2)}, "unknown option shard; there are: casts, columns, device, drop_last"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    view: Collection, options: dict[str, Any], expected: str
) -> None:
    """At once, not when the first batch is read."""
    with pytest.raises(CollectionError, match=re.escape(expected)):
        view.loader(**{"batch_size": 1, **options})


def test_processes_of_ddp_are_stopped_and_gone_on_from_in_another_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program of the docs: two processes, then this one; two epochs use each row once each."""
    TableCollector.at(tmp_path / "c").collect((0, line(0)), (1, line(1)))  # 1,000 rows
    arguments = [str(PROGRAM), str(tmp_path / "c"), str(tmp_path / "run.pt")]

    first = printed_by_processes(2, [*arguments, "--steps=20"])
    for name, value in told_by_torchrun(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(PROGRAM), run_name="__main__")

    assert "world size 2: 1,256 rows in 20 steps, up to epoch 1, row 256: y = " in first
    second = capsys.readouterr().out
    assert "world size 1: 744 rows in 24 steps, up to epoch 2, row 0: y = " in second
    slope, constant = re.findall(r"y = ([\d.]+) x \+ ([\d.]+)", second)[0]
    assert abs(float(slope) - 3) + abs(float(constant) - 1) < 0.1


def printed_by_processes(count: int, arguments: list[str]) -> str:
    """Return what the first process of several prints."""
    common = {**os.environ, **told_by_torchrun(count), "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**common, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        printed = [rank.communicate(timeout=300)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * count
    return printed[0]


def told_by_torchrun(processes: int) -> dict[str, str]:
    """Return what torchrun tells processes in their environment, all but their ranks."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}


def test_the_page_on_training_runs_where_it_needs_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every prompt of these sections."""
    collected(tmp_path / "collected" / "readings")
    monkeypatch.chdir(tmp_path)
    text = "".join(sections(PAGE, with_torch=True))
    known = {"collection": batch_collection.open("collected/readings")}
    example = doctest.DocTestParser().get_doctest(text, known, PAGE.name, str(PAGE), 0)

    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)

    assert found.attempted >= 5
    assert found.failed == 0
