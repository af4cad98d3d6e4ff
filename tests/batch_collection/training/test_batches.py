"""Exact batches over a collection: the laws, and the places that can be saved."""

from __future__ import annotations

import itertools
import json
import pickle
import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import CollectionError, StorageError
from batch_collection.reading.row_sequence import RowSequence
from batch_collection.training import batches as batches_module
from batch_collection.training.arrays import Arrays
from tests.tables import TableCollector, numbered, rows_read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batch_collection.collection import Collection

FILES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=5)
SIZES = st.integers(1, 25)
SEEDS = st.none() | st.integers(0, 5)
SHARDS = st.integers(1, 4).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n)))


def collection_of(root: Path, files: list[tuple[int, int]], file_format: str) -> Collection:
    """Return files of so many rows in such minutes, in row groups of 8, ids counted through."""
    collector = TableCollector.at(root, file_format, row_group=8)
    first, made = 0, []
    for minute, rows in files:
        made.append((minute, numbered(first, first + rows)))
        first += rows
    return collector.collect(*made)


def ids(batches: Iterable[Any]) -> list[list[int]]:
    """Return the ids in each batch."""
    return [batch.column("id").to_pylist() for batch in batches]


def flat(batches: list[list[int]]) -> list[int]:
    """Return all ids."""
    return [row for batch in batches for row in batch]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Return 100 rows in two windows and five files."""
    files = [(0, 30), (1, 25), (0, 5), (1, 17), (0, 23)]
    return collection_of(tmp_path_factory.mktemp("view"), files, "parquet")


@settings(max_examples=60, deadline=None)
@given(
    FILES,
    SIZES,
    SEEDS,
    SHARDS,
    st.booleans(),
    st.integers(0, 3),
    st.integers(1, 40),
    st.sampled_from(["parquet", "jsonl"]),
)
def test_batches_have_exactly_n_rows_and_each_row_comes_once(  # noqa: PLR0913, PLR0917 - each its own
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[int, int]],
    size: int,
    shuffle: int | None,
    shard: tuple[int, int],
    drop: bool,  # noqa: FBT001
    prefetch: int,
    buffer: int,
    file_format: str,
) -> None:
    """Over all shards; only the last of a shard is smaller, and dropped if that is asked for."""
    files = [(minute, max(rows, 1)) for minute, rows in files]
    view = collection_of(tmp_path_factory.mktemp("c"), files, file_format)
    found = []
    for index in range(shard[1]):
        batches = view.to_arrow_batches(
            size,
            shuffle=shuffle,
            shuffle_buffer=buffer,
            shard=(index, shard[1]),
            drop_remainder=drop,
            prefetch=prefetch,
        )
        found.append(ids(batches))
        assert len(found[-1]) == len(batches)

    rows = [row for shard_ in found for row in flat(shard_)]
    total = sum(rows for _, rows in files)
    assert len(set(rows)) == len(rows)
    assert all(len(batch) == size for shard_ in found for batch in shard_[:-1])
    if drop:
        assert {len(shard_) for shard_ in found} == {total // shard[1] // size}
        assert all(len(batch) == size for shard_ in found for batch in shard_)
    else:
        assert sorted(rows) == list(range(total))
    if shuffle is None and not drop:
        ordered = view.to_arrow(["id"]).column(0).to_pylist() if total else []
        assert rows == ordered


def test_a_windows_files_are_one_sequence_in_order(view: Collection) -> None:
    """Window by window, whatever the order in which their files were committed."""
    batches = ids(view.to_arrow_batches(29, ["id"]))

    first = [*range(30), *range(55, 60), *range(77, 100)]
    assert flat(batches) == [*first, *range(30, 55), *range(60, 77)]
    assert [len(batch) for batch in batches] == [29, 29, 29, 13]


def test_without_remainders_every_shard_has_as_many_batches(view: Collection) -> None:
    """Also where one has the row that would make another: trainers wait for each other."""
    counts = [
        len(list(view.to_arrow_batches(34, shard=(i, 3), drop_remainder=True))) for i in range(3)
    ]

    assert counts == [0, 0, 0]


def test_the_same_seed_gives_the_same_order_another_one_another(view: Collection) -> None:
    """And it is none that is in the data."""
    one, same, other = (
        flat(ids(view.to_arrow_batches(10, ["id"], shuffle=seed, shuffle_buffer=40)))
        for seed in (1, 1, 2)
    )

    assert one == same
    assert one != other
    assert one != flat(ids(view.to_arrow_batches(10, ["id"])))


def test_a_shuffled_order_is_the_same_for_ever(view: Collection) -> None:
    """Places that were saved are places in it: of all rows, and of one side of a split."""
    side = view.split({"a": 0.5, "b": 0.5}, by="device")["a"]
    for part, first in ((view, [71, 83, 54, 70, 77, 28, 0]), (side, [24, 50, 17, 74, 18, 84, 0])):
        batches = part.to_arrow_batches(7, shuffle=3, shuffle_buffer=40)
        assert next(iter(batches)).column("id").to_pylist() == first


def test_a_shuffled_block_opens_each_of_its_files_once(
    view: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order in which row groups of one file are wanted."""
    opened: list[int] = []
    read = RowSequence._read  # noqa: SLF001 - what opens a file

    def counted(self: RowSequence, batch: int, *given: Any) -> pa.Table:
        opened.append(batch)
        return read(self, batch, *given)

    monkeypatch.setattr(RowSequence, "_read", counted)
    assert sorted(flat(ids(view.to_arrow_batches(7, shuffle=3)))) == list(range(100))
    assert sorted(opened) == [0, 1, 2, 3, 4]


@settings(deadline=None, max_examples=40)
@given(SIZES, st.none() | st.integers(2, 20), SEEDS, st.booleans())
def test_groups_have_the_rows_of_their_batches(
    view: Collection,
    size: int,
    count: int | None,
    shuffle: int | None,
    drop: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    """In order; whole batches of one epoch, but for the last, or what was read at once."""
    options: dict[str, Any] = {"shuffle": shuffle, "shuffle_buffer": 40, "drop_remainder": drop}
    batches = view.to_arrow_batches(size, ["id"], repeat=2, **options)
    epochs: list[list[int]] = [[], []]
    for group in batches.in_groups(count):
        found = group.column("id").to_pylist()
        epochs[batches.state_dict()["epoch"]] += found
        if count is not None:
            is_last = len(epochs[batches.state_dict()["epoch"]]) == 100
            assert is_last or len(found) % size == 0
            assert len(found) <= size * count

    alone = view.to_arrow_batches(size, ["id"], **options)
    assert epochs == [flat(ids(alone)), flat(ids(alone))]


@pytest.mark.parametrize("files", [5, 40])
def test_the_first_batch_of_a_side_waits_for_few_keys(
    tmp_path: Path, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the first files, however many there are; all are read once."""
    view = collection_of(tmp_path, [(0, 30)] * files, "parquet")
    side = view.split({"a": 0.5, "b": 0.5}, by="device")["a"]
    expected = side.to_arrow()["id"].to_pylist()
    judged: list[int] = []
    judge = RowSequence._judge  # noqa: SLF001 - what reads keys

    def counted(self: RowSequence, batch: int) -> Any:
        judged.append(batch)
        return judge(self, batch)

    monkeypatch.setattr(RowSequence, "_judge", counted)
    loop = iter(side.to_arrow_batches(4, prefetch=0))
    first = next(loop).column("id").to_pylist()
    assert first == expected[:4]
    assert set(judged) <= {0, 1, 2}
    assert [*first, *flat(ids(loop))] == expected
    assert flat(ids(side.to_arrow_batches(4))) == expected
    assert sorted(judged) == list(range(files))


def test_a_side_that_misses_its_fraction_is_told_behind_its_first_loop(tmp_path: Path) -> None:
    """Where nothing asked for the number of its rows before."""
    rows = pa.table({"key": ["a"] * 95 + ["b"] * 5})
    sides = (
        TableCollector.at(tmp_path)
        .collect((0, rows), (1, rows))
        .split({"x": 0.5, "y": 0.5}, by="key")
    )
    for side in sides.values():
        loop = iter(side.to_arrow_batches(1000, repeat=1))
        with pytest.warns(UserWarning, match="of the rows, not 50.0%"):
            list(loop)


def test_a_footer_is_parsed_once_however_many_blocks_a_file_is_read_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a large file: to parse it takes longer than to read a row group."""
    view = collection_of(tmp_path, [(0, 800), (1, 800)], "parquet")
    view.to_arrow_batches(8)  # which reads all footers
    given: list[bool] = []
    opened = pq.ParquetFile

    def counted(*source: Any, metadata: Any, **how: Any) -> Any:
        given.append(metadata is not None)
        return opened(*source, metadata=metadata, **how)

    monkeypatch.setattr(pq, "ParquetFile", counted)
    batches = view.to_arrow_batches(8, shuffle=3, shuffle_buffer=40, prefetch=0)
    assert sorted(flat(ids(batches))) == list(range(1600))
    assert given.count(False) == 2
    assert given.count(True) > 40


def test_each_epoch_has_another_order_and_all_rows(view: Collection) -> None:
    """Whether epochs are loops of the user's or repeated within one."""
    options: dict[str, Any] = {"shuffle": 1, "shuffle_buffer": 40}
    repeated = ids(view.to_arrow_batches(10, ["id"], repeat=3, **options))
    looped = view.to_arrow_batches(10, ["id"], **options)
    epochs = [flat(ids(looped)) for _ in range(3)]

    assert flat(repeated) == flat(epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    again = view.to_arrow_batches(10, ["id"], **options)
    again.set_epoch(2)
    assert flat(ids(again)) == epochs[2]


def test_an_epoch_that_is_set_is_the_place_that_is_kept(view: Collection) -> None:
    """What a state that is taken right then says, and where a loop that was left begins again."""
    batches = view.to_arrow_batches(10, ["id"], shuffle=1)
    batches.set_epoch(5)
    again = view.to_arrow_batches(10, ["id"], shuffle=1)
    again.load_state_dict(batches.state_dict())
    assert batches.loop_epoch == again.loop_epoch == 5
    next(iter(batches))
    assert batches.loop_epoch == 5
    expected = view.to_arrow_batches(10, ["id"], shuffle=1)
    for _ in range(5):
        flat(ids(expected))
    assert flat(ids(again)) == flat(ids(expected))


def test_rows_of_one_piece_are_mixed_anew_each_epoch(tmp_path: Path) -> None:
    """Though there is but one order of its pieces."""
    view = TableCollector.at(tmp_path).collect((0, numbered(0, 50)))
    batches = view.to_arrow_batches(50, ["id"], shuffle=1)
    epochs = [flat(ids(batches)) for _ in range(3)]

    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.none() | st.integers(0, 5), max_size=9)),
        max_size=4,
    ),
    SIZES,
    SHARDS,
    st.booleans(),
    st.integers(0, 9),
)
def test_rows_of_a_window_come_in_the_order_of_a_column(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[int, list[int | None]]],
    size: int,
    shard: tuple[int, int],
    is_side: bool,  # noqa: FBT001
    taken: int,
) -> None:
    """Across its files; as they were where it does not tell; sharded and taken up like others."""
    collector = TableCollector.at(tmp_path_factory.mktemp("c"), row_group=2)
    tables = [
        (
            minute,
            pa.table({"at": [{"t": t} for t in times], "id": range(100 * n, 100 * n + len(times))}),
        )
        for n, (minute, times) in enumerate(files)
        if times
    ]
    view = collector.collect(*((minute, each) for minute, each in tables))
    if is_side and tables:
        view = view.split({"all": 1.0}, by="id")["all"]
    expected = [
        row["id"]
        for _, window in itertools.groupby(sorted(tables, key=lambda each: each[0]), lambda t: t[0])
        for row in sorted(
            (row for _, each in window for row in each.to_pylist()),
            key=lambda row: 9 if row["at"]["t"] is None else row["at"]["t"],
        )
    ]
    if not tables:
        return

    def made(index: int) -> Any:
        return view.to_arrow_batches(size, ["id"], order_by="at.t", shard=(index, shard[1]))

    shards = [ids(made(index)) for index in range(shard[1])]
    assert [row for each in shards for row in flat(each)] == expected
    batches = made(shard[0])
    for _ in zip(range(taken), batches, strict=False):
        pass
    resumed = made(shard[0])
    resumed.load_state_dict(batches.state_dict())
    done = min(taken, len(shards[shard[0]]))
    if 0 < done < len(shards[shard[0]]):
        assert ids(resumed) == shards[shard[0]][done:]


def test_a_place_in_another_order_is_another_place(view: Collection) -> None:
    """Older states, that know of no other, are of the order that there was."""
    plain, ordered = (view.to_arrow_batches(10, order_by=by) for by in (None, "id"))
    state = plain.state_dict()
    with pytest.raises(CollectionError, match="saved with order_by=None, this has id"):
        ordered.load_state_dict(state)
    with pytest.raises(CollectionError, match="saved with order_by=id, this has None"):
        plain.load_state_dict(ordered.state_dict())
    del state["order_by"]
    plain.load_state_dict(state)


def test_a_loop_that_was_left_begins_again(view: Collection) -> None:
    """With the epoch that it left."""
    batches = view.to_arrow_batches(10, ["id"], shuffle=1)
    first = next(iter(batches)).column("id").to_pylist()

    assert ids(batches)[0] == first


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS, SHARDS, st.integers(1, 2) | st.none(), st.integers(1, 14), st.booleans())
def test_a_saved_place_goes_on_with_the_very_next_batch(
    view: Collection,
    size: int,
    shuffle: int | None,
    shard: tuple[int, int],
    repeat: int | None,
    taken: int,
    drop: bool,  # noqa: FBT001
) -> None:
    """In another process: what is saved is JSON."""

    def made() -> Any:
        return view.to_arrow_batches(
            size,
            ["id"],
            shuffle=shuffle,
            shuffle_buffer=30,
            shard=shard,
            repeat=repeat,
            drop_remainder=drop,
        )

    batches = made()
    most = 3 * batches.batches_an_epoch
    whole = [batch for batch, _ in zip(made(), range(most), strict=False)]
    taken = min(taken, len(whole))
    if taken == 0:
        return
    running = iter(batches)
    for _ in range(taken):
        next(running)
    state = json.loads(json.dumps(batches.state_dict()))
    resumed = made()
    resumed.load_state_dict(state)

    rest = [batch for batch, _ in zip(resumed, range(most - taken), strict=False)]
    assert ids(rest) == ids(whole[taken:])


def test_after_a_finished_loop_the_state_says_the_next_epoch(view: Collection) -> None:
    """So that a run saved between epochs is taken up with a whole one."""
    batches = view.to_arrow_batches(10, ["id"], shuffle=1)
    list(batches)
    resumed = view.to_arrow_batches(10, ["id"], shuffle=1)
    resumed.load_state_dict(batches.state_dict())

    assert ids(resumed) == ids(batches)


def test_a_place_in_other_batches_is_refused(view: Collection) -> None:
    """It would be another place."""
    state = view.to_arrow_batches(10, ["id"]).state_dict()

    with pytest.raises(CollectionError, match="the state was saved with batch_size=10, this has 9"):
        view.to_arrow_batches(9, ["id"]).load_state_dict(state)
    narrowed = view.between(end="2026-11-22T10:01Z").to_arrow_batches(10, ["id"])
    with pytest.raises(CollectionError, match="saved with rows=all, this has to 2026-11-22T10:01"):
        narrowed.load_state_dict(state)
    with pytest.raises(CollectionError, match="not a state of batches: it has no 'epoch'"):
        view.to_arrow_batches(9, ["id"]).load_state_dict({})
    with pytest.raises(CollectionError, match="not a state of batches, which is a mapping: None"):
        view.to_arrow_batches(9, ["id"]).load_state_dict(None)  # type: ignore[arg-type]
    for changed, message in (
        ({"row": 10.0}, r"row must be a whole number, got 10\.0"),
        ({"epoch": -1}, "epoch must be at least 0, got -1"),
        ({"until": "1"}, "until must be a whole number, got '1'"),
    ):
        with pytest.raises(CollectionError, match=message):
            view.to_arrow_batches(10, ["id"]).load_state_dict({**state, **changed})
    with pytest.raises(CollectionError, match="batches must be at least 0, got -1"):
        view.to_arrow_batches(10, ["id"]).skip(-1)


def test_a_place_in_an_older_snapshot_says_how_to_get_it(tmp_path: Path) -> None:
    """The collector went on; the old snapshot is still to be had."""
    collector = TableCollector.at(tmp_path)
    old = collector.collect((0, numbered(0, 10))).to_arrow_batches(4, ["id"])
    expected = ids(old)[1:]
    old.set_epoch(0)
    next(iter(old))
    state = old.state_dict()
    new = collector.collect((1, numbered(10, 20)), (0, numbered(20, 25)))

    with pytest.raises(CollectionError, match=re.escape("with open(...).at(cycle=1)")):
        new.to_arrow_batches(4, ["id"]).load_state_dict(state)
    resumed = new.at(cycle=1).to_arrow_batches(4, ["id"])
    resumed.load_state_dict(state)
    assert ids(resumed) == expected


def test_skipped_batches_are_not_read(view: Collection) -> None:
    """Over epochs and whole loops as well: so a step counter is enough to go on."""
    four = view.to_arrow_batches(10, ["id"], repeat=2, shuffle=3)
    loops = [*ids(four), *ids(four)]
    for count in (0, 3, 10, 13, 20, 27, 39):
        batches = view.to_arrow_batches(10, ["id"], repeat=2, shuffle=3)
        batches.skip(count)
        assert ids(batches) == loops[count : 20 if count < 20 else 40]
        resumed = view.to_arrow_batches(10, ["id"], repeat=2, shuffle=3)
        for _ in zip(range(count % 20), resumed, strict=False):
            pass
        resumed.load_state_dict(resumed.state_dict())
        resumed.skip(count // 20 * 20)
        assert ids(resumed) == loops[count : 20 if count < 20 else 40]


def test_endless_batches_have_no_length_and_empty_ones_an_end(
    view: Collection, tmp_path: Path
) -> None:
    """Nothing, repeated for ever, is nothing."""
    with pytest.raises(TypeError, match="without end"):
        len(view.to_arrow_batches(10, repeat=None))
    empty = TableCollector.at(tmp_path).collect()

    assert list(empty.to_arrow_batches(10, repeat=None)) == []


def test_threads_end_with_the_loop(view: Collection) -> None:
    """Also with one that was left."""
    before = threading.active_count()
    for _ in view.to_arrow_batches(3):
        break
    list(view.to_numpy_batches(3))

    assert threading.active_count() == before


def test_wide_rows_are_read_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are bounded in bytes, too, by what the rows before them took; narrow ones are not."""
    collector = TableCollector.at(tmp_path, row_group=100)
    rows = pa.table({"id": range(4000), "text": ["x" * 1000] * 4000})
    view = collector.collect((0, rows))
    monkeypatch.setattr(batches_module, "BLOCK_BYTES", 300 * 1008)
    read = rows_read(monkeypatch)
    batches = view.to_arrow_batches(1)
    assert flat(ids(itertools.islice(batches, 1))) == [0]
    assert sum(read) <= 100 + 2 * 300
    assert flat(ids(batches)) == list(range(4000))
    assert max(read) <= 300

    groups = view.to_arrow_batches(10).in_groups(1000)
    assert {group.num_rows for group in groups} <= {100, *range(10, 301, 10)}
    read.clear()
    assert flat(ids(view.to_arrow_batches(64, ["id"]))) == list(range(4000))
    assert read == [100, 3900]


def test_what_fails_in_a_thread_fails_in_the_loop(tmp_path: Path) -> None:
    """As it would without threads."""
    collector = TableCollector.at(tmp_path)
    view = collector.collect((0, numbered(0, 10)), (1, numbered(0, 10)))
    batches = view.to_arrow_batches(4, ["id"])
    list(batches)
    collector.storage.delete([view.in_window_order()[1].path])

    with pytest.raises(StorageError, match="is gone, though the log names it"):
        list(batches)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"shard": (2, 2)}, "with an index from 0 to count - 1, got (2, 2)"),
        ({"repeat": 0}, "repeat must be at least 1, or None for no end, got 0"),
        ({"shuffle_buffer": 0}, "shuffle_buffer must be at least 1, got 0"),
        ({"prefetch": -1}, "prefetch must be at least 0, got -1"),
        ({"shufle": 1}, "unknown option shufle; there are: drop_remainder, order_by, prefetch"),
        ({"casts": {}}, "unknown option casts"),
        ({"batch_size": 10.0}, "batch_size must be a whole number, got 10.0"),
        ({"batch_size": True}, "batch_size must be a whole number, got True"),
        ({"shuffle": True}, "shuffle must be a seed, as 1, or None for no shuffle, got True"),
        ({"shuffle": False}, "shuffle must be a seed, as 1, or None for no shuffle, got False"),
        ({"shuffle": "x"}, "shuffle must be a whole number, got 'x'"),
        ({"shard": 3}, "shard must be (index, count), got 3"),
        ({"shard": (0.0, 2)}, "shard must be a whole number, got 0.0"),
        ({"repeat": 1.5}, "repeat must be a whole number, got 1.5"),
        ({"prefetch": None}, "prefetch must be a whole number, got None"),
        ({"drop_remainder": 1}, "drop_remainder must be True or False, got 1"),
        ({"order_by": 1}, "order_by must be the name of a column, got 1"),
        ({"order_by": "idd"}, "order_by names idd; there are: id, device"),
        ({"order_by": "id", "shuffle": 1}, "order_by and shuffle are two orders; leave one"),
        ({"columns": "id"}, "columns must be a list of names, as ['value'], got 'id'"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    view: Collection, options: dict[str, Any], expected: str
) -> None:
    """At once, not when the first batch is read."""
    with pytest.raises(CollectionError, match=re.escape(expected)):
        view.to_arrow_batches(**{"batch_size": 1, **options})


def test_numbers_of_numpy_are_numbers(view: Collection) -> None:
    """And states with them are JSON."""
    batches = view.to_arrow_batches(
        np.int64(10), shuffle=np.int32(1), shard=(np.int64(0), np.int64(1)), repeat=np.uint8(1)
    )

    assert json.loads(json.dumps(batches.state_dict())) == batches.state_dict()
    for epoch, expected in ((1.0, "epoch must be a whole"), (-1, "epoch must be at least 0")):
        with pytest.raises(CollectionError, match=expected):
            batches.set_epoch(epoch)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 100), max_size=12), SEEDS, st.booleans(), st.integers(0, 3), st.data()
)
def test_parts_of_an_order_are_taken_and_nothing_is_made_of_the_rest(
    view: Collection,
    bounds: list[int],
    shuffle: int | None,
    is_whole: bool,  # noqa: FBT001
    prefetch: int,
    data: st.DataObject,
) -> None:
    """The rows of each part as one batch, across files and blocks."""
    options: dict[str, Any] = {"columns": ["id"], "shuffle": shuffle, "shuffle_buffer": 20}
    batches = view.to_numpy_batches(10, prefetch=prefetch, **options)
    epoch = data.draw(st.integers(0, 2))
    whole = view.to_numpy_batches(100, **options)
    whole.set_epoch(epoch)
    order = next(iter(whole))["id"].tolist()
    bounds = sorted({*bounds, *((0, 100) if is_whole else ())})
    parts = list(itertools.pairwise(bounds))[:: 1 if is_whole else 2]
    made: list[int] = []
    array = Arrays._array  # noqa: SLF001 - what makes one of a column

    def counted(self: Arrays, column: Any, values: pa.Array, *given: Any) -> Any:
        made.append(len(values))
        return array(self, column, values, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Arrays, "_array", counted)
        found = [batch["id"].tolist() for batch in batches.taken(epoch, iter(parts))]

    assert found == [order[start:stop] for start, stop in parts]
    assert sum(made) == sum(stop - start for start, stop in parts)
    assert batches.state_dict()["row"] == 0


def test_batches_share_the_memory_of_what_was_read(view: Collection) -> None:
    """A batch is a table, of two files where they meet: nothing is copied."""
    first, second = list(view.to_arrow_batches(2, ["id"]))[:2]
    whole = next(iter(view.to_arrow_batches(100, ["id"])))

    assert isinstance(first, pa.Table)
    addresses = [each.column(0).chunk(0).buffers()[1].address for each in (first, second)]
    assert addresses[0] == addresses[1]
    assert whole.column(0).num_chunks > 1


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_rows_without_columns_are_counted(tmp_path: Path, file_format: str) -> None:
    """Who asks for no column gets as many rows, in batches, of a filter, and in one table."""
    view = collection_of(tmp_path, [(0, 9), (1, 4)], file_format)
    for options in ({}, {"shuffle": 1}, {"order_by": "id"}):
        assert [len(batch) for batch in view.to_arrow_batches(5, [], **options)] == [5, 5, 3]
    part = view.where(pc.field("id") >= 2)

    assert len(view.to_arrow([])) == 13
    assert len(part.to_arrow([])) == 11
    assert [len(batch) for batch in part.to_arrow_batches(4, [])] == [4, 4, 3]


@pytest.mark.parametrize("options", [{}, {"shuffle": 1}, {"order_by": "id"}])
def test_batches_go_to_another_process(view: Collection, options: dict[str, Any]) -> None:
    """With their place, as a process that is spawned gets them."""
    part = view.where(pc.field("id") >= 2).split({"a": 0.8}, by="id")["a"]
    for batches in (part.to_arrow_batches(7, **options), part.to_numpy_batches(7, **options)):
        loop = iter(batches)
        next(loop)
        rest = [list(batch["id"]) for batch in loop]
        batches.load_state_dict({**batches.state_dict(), "epoch": 0, "row": 7, "until": 1})
        copied = pickle.loads(pickle.dumps(batches))  # noqa: S301 - our own

        assert [list(batch["id"]) for batch in copied] == rest
