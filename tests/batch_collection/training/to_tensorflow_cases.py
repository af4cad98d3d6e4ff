"""TensorFlow: ``tf.data`` with known types, and a model that learns from what was collected.

Run by ``test_frameworks.py``, in a process of their own.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_collection
from batch_collection.errors import CollectionError
from batch_collection.exporting.export import export
from batch_collection.exporting.tfrecord import example
from tests.tables import TableCollector, numbered

if TYPE_CHECKING:
    from batch_collection.collection import Collection

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import tensorflow as tf

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Return 103 rows in three files."""
    collector = TableCollector.at(tmp_path_factory.mktemp("view"), row_group=16)
    return collector.collect((0, numbered(0, 40)), (1, numbered(40, 70)), (2, numbered(70, 103)))


def ids(dataset: Any) -> list[list[int]]:
    """Return the ids in each batch."""
    return [batch["id"].numpy().tolist() for batch in dataset]


def test_types_and_shapes_are_known_without_reading(tmp_path: Path) -> None:
    """A model can be built before the first row is read: the files are gone here."""
    rows = pa.table(
        {
            "f": pa.array([0.5], pa.float32()),
            "t": pa.array([1], pa.timestamp("ms", "UTC")),
            "s": ["a"],
            "v": [[1.0, 2.0]],
            "l": [[1]],
        }
    )
    collector = TableCollector.at(tmp_path)
    view = collector.collect((0, rows))
    view.to_tf(4, columns=["t"])  # reads the footers
    collector.storage.delete([batch.path for batch in view])
    fixed: dict[str, Any] = {"lengths": {"v": 2}, "columns": ["f", "t", "s", "v"]}

    assert view.to_tf(4, **fixed).element_spec == {
        "f": tf.TensorSpec((None,), tf.float32),
        "t": tf.TensorSpec((None,), tf.int64),
        "s": tf.TensorSpec((None,), tf.string),
        "v": tf.TensorSpec((None, 2), tf.float64),
    }
    dropping = view.to_tf(4, drop_remainder=True, **fixed).element_spec
    assert dropping["v"] == tf.TensorSpec((4, 2), tf.float64)
    ragged = view.to_tf(4, columns=["l"]).element_spec["l"]
    assert ragged == tf.RaggedTensorSpec((None, None), tf.int64, 1, tf.int64)


def test_values_come_as_they_are(tmp_path: Path) -> None:
    """Text as bytes, instants as microseconds, lists of any length as ragged rows."""
    rows = pa.table(
        {
            "t": pa.array([1, 2, 3], pa.timestamp("ms", "UTC")),
            "s": ["a", "ü", ""],
            "b": [True, False, True],
            "l": [[1, 2], [], [3]],
            "w": [["x"], ["y", "z"], []],
        }
    )
    view = TableCollector.at(tmp_path).collect((0, rows))
    first, second = view.to_tf(2)

    assert first["t"].numpy().tolist() == [1000, 2000]
    assert first["s"].numpy().tolist() == [b"a", "ü".encode()]
    assert first["b"].numpy().tolist() == [True, False]
    assert first["l"].to_list() == [[1, 2], []]
    assert second["w"].to_list() == [[]]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 60),
    st.none() | st.integers(0, 3),
    st.booleans(),
    st.integers(1, 2),
    st.integers(0, 9),
)
def test_batches_are_those_of_numpy(
    view: Collection,
    size: int,
    shuffle: int | None,
    drop: bool,  # noqa: FBT001
    repeat: int,
    skip: int,
) -> None:
    """The same rows in the same order, cut at the same places, also across epochs."""
    options: dict[str, Any] = {
        "columns": ["id", "device"],
        "shuffle": shuffle,
        "shuffle_buffer": 32,
        "drop_remainder": drop,
        "repeat": repeat,
        "shard": (1, 2),
    }
    expected = [batch["id"].tolist() for batch in view.to_numpy_batches(size, **options)]
    state = view.to_numpy_batches(size, **options).state_dict()
    dataset = view.to_tf(size, state=state if skip else None, skip=skip, **options)

    if skip < len(expected):
        assert ids(dataset) == expected[skip:]
    if not skip:
        assert dataset.cardinality().numpy() == len(expected)


def test_endless_batches_are_endless(view: Collection) -> None:
    """And say so."""
    dataset = view.to_tf(50, columns=["id"], repeat=None)

    assert dataset.cardinality().numpy() == tf.data.INFINITE_CARDINALITY
    assert [len(batch) for batch in ids(dataset.take(7))] == [50, 50, 3, 50, 50, 3, 50]


def test_each_loop_is_an_epoch(view: Collection) -> None:
    """In another order, as Keras's epochs are to be; one that was left begins again."""
    options: dict[str, Any] = {"columns": ["id"], "shuffle": 1, "shuffle_buffer": 32}
    dataset = view.to_tf(10, **options)
    for _ in dataset:
        break
    found = ids(dataset) + ids(dataset)

    assert found == ids(view.to_tf(10, repeat=2, **options))
    batches = view.to_numpy_batches(10, **options)
    assert ids(view.to_tf(10, state=batches.state_dict(), skip=14, **options)) == found[14:]
    next(iter(batches))
    assert ids(view.to_tf(10, state=batches.state_dict(), skip=13, **options)) == found[14:]


@pytest.mark.parametrize("columns", [["id"], ["id", "l"]])
def test_a_loop_left_before_its_end_begins_again(tmp_path: Path, columns: list[str]) -> None:
    """However near it was: nothing comes to the end of an epoch before the loop does."""
    rows = numbered(0, 40).append_column("l", pa.array([[1]] * 40))
    view = TableCollector.at(tmp_path).collect((0, rows))
    dataset = view.to_tf(10, columns=columns, shuffle=1)
    for _ in dataset.take(3):
        pass
    loop = iter(dataset)
    for _ in range(3):
        next(loop)
    time.sleep(0.3)  # in which TensorFlow would come to the end by itself
    del loop
    first, second = ids(dataset), ids(dataset)

    assert first + second == ids(view.to_tf(10, columns=columns, shuffle=1, repeat=2))


def test_a_step_alone_is_no_place(tmp_path: Path) -> None:
    """A collection that has grown has other rows there."""
    collector = TableCollector.at(tmp_path)
    old = collector.collect((0, numbered(0, 10)))
    state = old.to_numpy_batches(2).state_dict()
    grown = collector.collect((0, numbered(10, 20)))

    with pytest.raises(CollectionError, match="skip=3 needs the state of these batches"):
        grown.to_tf(2, skip=3)
    with pytest.raises(CollectionError, match=r"with open\(...\).at\(cycle=1\)"):
        grown.to_tf(2, state=state, skip=3)
    assert ids(grown.at(cycle=1).to_tf(2, state=state, skip=3)) == [[6, 7], [8, 9]]


def test_nothing_is_no_batch(view: Collection, tmp_path: Path) -> None:
    """Also for ever; without a column there is no data set to say that with."""
    nothing = view.between(end="2026-11-22T09:00Z")
    for repeat in (1, 3, None):
        assert ids(nothing.to_tf(4, repeat=repeat)) == []
    for lacking in (TableCollector.at(tmp_path).collect(), view):
        with pytest.raises(CollectionError, match=r"no column is read, and tf.data has no batches"):
            lacking.to_tf(4, columns=[])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_learns_what_a_constant_cannot(tmp_path: Path) -> None:
    """A line through noise, with Keras: the loss comes near the noise's own."""
    view = TableCollector.at(tmp_path).collect(*((minute, line(minute)) for minute in range(4)))
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.layers.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    dataset = view.to_tf(50, shuffle=1, repeat=5, casts={"x": "float32", "y": "float32"})

    model.fit(dataset.map(lambda batch: (batch["x"], batch["y"])), shuffle=False, verbose=0)

    table = view.to_arrow(["x", "y"])
    x, y = (table[name].to_numpy().astype(np.float32) for name in ("x", "y"))
    loss = float(np.mean((model.predict(x[:, None], verbose=0)[:, 0] - y) ** 2))
    assert loss < 0.02 < float(y.var()) / 100


def line(minute: int) -> pa.Table:
    """Return 500 points near ``y = 3 x + 1``; a variance of 0.01 is noise, the rest is not."""
    rng = np.random.default_rng(minute)
    x = rng.normal(size=500)
    return pa.table({"x": x, "y": 3 * x + 1 + 0.1 * rng.normal(size=500)})


def test_exported_records_parse_with_tensorflows_own_parser(tmp_path: Path) -> None:
    """Their framing, checksums included, and each value; a null is a missing feature."""
    rows = pa.table(
        {
            "i": [0, -1, 2**63 - 1, None],
            "f": [0.5, -1.25, None, 3.0],
            "s": ["a", None, "ü" * 100, ""],
            "b": [True, False, True, None],
            "v": [[1, 2], [], [300, -5], [7]],
            "place": [{"x": 1.5}, {"x": 2.5}, {"x": 3.5}, {"x": 4.5}],
            "t": pa.array([1, 2, 3, 4], pa.timestamp("ms", "UTC")),
        }
    )
    view = TableCollector.at(tmp_path / "c").collect((0, rows))
    export({"": view}, tmp_path / "out", "tfrecord", shards=2)
    files = sorted(map(str, (tmp_path / "out").glob("*.tfrecord")))
    features = {
        "i": tf.io.FixedLenFeature((), tf.int64, default_value=-9),
        "f": tf.io.FixedLenFeature((), tf.float32, default_value=-9.0),
        "s": tf.io.FixedLenFeature((), tf.string, default_value="?"),
        "b": tf.io.FixedLenFeature((), tf.int64, default_value=-9),
        "v": tf.io.RaggedFeature(tf.int64),
        "place.x": tf.io.FixedLenFeature((), tf.float32),
        "t": tf.io.FixedLenFeature((), tf.int64),
    }
    parsed = [tf.io.parse_single_example(one, features) for one in tf.data.TFRecordDataset(files)]

    assert len(files) == 2
    found = {name: [np.array(one[name]).tolist() for one in parsed] for name in features}
    assert found == {
        "i": [0, -1, 2**63 - 1, -9],
        "f": [0.5, -1.25, -9.0, 3.0],
        "s": [b"a", b"?", ("ü" * 100).encode(), b""],
        "b": [1, 0, 1, -9],
        "v": [[1, 2], [], [300, -5], [7]],
        "place.x": [1.5, 2.5, 3.5, 4.5],
        "t": [1000, 2000, 3000, 4000],
    }


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)
        | st.lists(st.binary(max_size=200), max_size=4)
        | st.lists(st.floats(width=32, allow_nan=False), max_size=4),
        max_size=5,
    )
)
def test_an_example_is_what_tensorflow_reads(features: dict[str, list[Any]]) -> None:
    """Whatever the names, the values and their number."""
    read = tf.train.Example.FromString(example(features)).features.feature

    kinds = {"int64_list", "bytes_list", "float_list"}
    found = {
        name: [value for kind in kinds for value in getattr(feature, kind).value]
        for name, feature in read.items()
    }
    assert found == features


@pytest.mark.parametrize("options", [{}, {"repeat": 2}, {"lengths": {}}])
def test_features_and_their_label_are_what_fit_takes(
    view: Collection, options: dict[str, Any]
) -> None:
    """A pair of which all is known before it is read."""
    dataset = view.to_tf(10, label="id", **options)
    features, label = dataset.element_spec

    assert (list(features), label) == (["device"], tf.TensorSpec((None,), tf.int64))
    found = [row for _, ids in dataset for row in ids.numpy().tolist()]
    assert found == list(range(103)) * options.get("repeat", 1)


def test_a_filter_holds_for_what_tensorflow_reads(view: Collection) -> None:
    """And for how many batches it says there are."""
    dataset = view.where(pc.field("id") > 80).to_tf(10, columns=["id"])

    assert ids(dataset) == [[*range(81, 91)], [*range(91, 101)], [101, 102]]
    assert len(dataset) == 3


def test_tensorflow_follows_a_log(tmp_path: Path) -> None:
    """What is new, each row once, with types that are known before."""
    collector = TableCollector.at(tmp_path)
    collector.collect((0, numbered(0, 30)))

    def dataset() -> tf.data.Dataset:
        followed = batch_collection.open(collector.storage).follow("a", once=True)
        return followed.to_tf(8, label="id")

    spec = dataset().element_spec
    assert spec == ({"device": tf.TensorSpec((None,), tf.string)}, spec[1])
    assert spec[1] == tf.TensorSpec((None,), tf.int64)
    assert [row for _, label in dataset() for row in label.numpy().tolist()] == list(range(30))
    collector.collect((0, numbered(30, 35)))
    assert [label.numpy().tolist() for _, label in dataset()] == [[*range(30, 35)]]


def test_keras_fits_a_model_to_features_and_their_label(tmp_path: Path) -> None:
    """Just what ``to_tf`` returns, in epochs of its own."""
    x = np.linspace(-1, 1, 64)
    view = TableCollector.at(tmp_path).collect((0, pa.table({"x": x, "y": 3 * x + 1})))
    entry = tf.keras.Input((1,), name="x")
    model = tf.keras.Model({"x": entry}, tf.keras.layers.Dense(1)(entry))
    model.compile(tf.keras.optimizers.SGD(0.2), "mse")

    fitted = model.fit(view.to_tf(16, label="y", shuffle=1), epochs=30, shuffle=False, verbose=0)

    assert fitted.history["loss"][-1] < 0.01


def test_keras_fits_as_the_page_on_training_shows(tmp_path: Path) -> None:
    """A model of one matrix, by the page's own program."""
    (program,) = re.findall(r"(?ms)^```python\nimport tensorflow.*?^```$", PAGE.read_text("utf-8"))
    x, z = np.linspace(-1, 1, 200), np.tile([0.0, 1.0], 100)
    view = TableCollector.at(tmp_path).collect((0, pa.table({"x": x, "z": z, "y": x + 2 * z})))
    tf.keras.utils.set_random_seed(0)
    names: dict[str, Any] = {"view": view}

    exec(program.strip("`").removeprefix("python\n"), names)  # noqa: S102 - the page's own

    loss = names["model"].history.history["loss"]
    assert len(loss) == 3
    assert loss[-1] < loss[0]


def test_sequences_are_tensors_of_known_shapes(tmp_path: Path) -> None:
    """Of (sequences, rows), text among them; with a label they are what fit takes."""
    rows = pa.table({"device": ["a"] * 6, "at": range(6), "y": [float(n) for n in range(6)]})
    sequences = TableCollector.at(tmp_path).collect((0, rows)).sequences("device", "at", length=3)

    dataset = sequences.to_tf(2, label="y")
    past, label = dataset.element_spec
    assert list(past) == ["device", "at", "y"]
    assert all(spec.shape.as_list() == [None, 3] for spec in past.values())
    assert label.shape.as_list() == [None, 1]
    found = [(past["at"].numpy().tolist(), label.numpy().tolist()) for past, label in dataset]
    assert found == [([[0, 1, 2], [1, 2, 3]], [[3.0], [4.0]]), ([[2, 3, 4]], [[5.0]])]
    past, future = next(iter(sequences.to_tf(2)))
    assert past["device"].numpy().tolist() == [[b"a"] * 3] * 2
    assert future["at"].numpy().tolist() == [[3], [4]]
