"""The readers: ours, and what each is measured beside."""

from __future__ import annotations

from bench.readers.contract import Reader
from bench.readers.environments import beside

__all__ = ["READERS"]

_DATASETS = beside("datasets", "5.2.0")
_BOTH = (0, 2)
_ARROW = "its batches end with each row group, here of 16,384 rows, and are not joined; ours are"
_RAGGED = "a slice in a loop, and batches end where its own pieces do; ours have exactly n rows"
_POLARS = "its own reader of Parquet takes three quarters of the CPU of Arrow's, which ours is"
_IN_MEMORY = "all rows are in memory; ours holds a buffer of them"

READERS = {
    "to_numpy_batches": Reader(
        "`to_numpy_batches(n)`", "NumPy", "ours:numpy_batches", ("batch_collection",), ours=True
    ),
    "pyarrow": Reader(
        "pyarrow, `to_batches(batch_size=n)`",
        "NumPy",
        "arrow:pyarrow_batches",
        ("pyarrow.dataset",),
        shuffles=False,
        note=_ARROW,
    ),
    "pyarrow-cut": Reader(
        "pyarrow, cut by hand with NumPy; shuffled: a table in memory",
        "NumPy",
        "arrow:pyarrow_cut",
        ("pyarrow.dataset",),
        note=f"{_RAGGED}; shuffled, {_IN_MEMORY}",
    ),
    "polars": Reader(
        "polars, `scan_parquet(...).collect().iter_slices(n)`",
        "NumPy",
        "arrow:polars_slices",
        ("polars",),
        note=f"{_POLARS}; {_IN_MEMORY}",
    ),
    "polars-stream": Reader(
        "polars, `collect_batches()`, cut by hand",
        "NumPy",
        "arrow:polars_stream",
        ("polars",),
        shuffles=False,
        note=f"{_POLARS}; {_RAGGED}",
    ),
    "duckdb": Reader(
        "DuckDB, `to_arrow_reader()`, cut by hand",
        "NumPy",
        "arrow:duck",
        ("duckdb",),
        note=f"{_RAGGED}; its own reader of Parquet",
    ),
    "to_torch": Reader(
        "`DataLoader(to_torch(n), batch_size=None)`",
        "PyTorch",
        "ours:torch",
        ("torch.utils.data", "batch_collection"),
        ours=True,
        workers=_BOTH,
    ),
    "to_torch-groups": Reader(
        "the same in groups of 32,768 rows, cut in the loop",
        "PyTorch",
        "ours:groups",
        ("torch.utils.data", "batch_collection"),
        ours=True,
        workers=(2,),
    ),
    "table-rows": Reader(
        "`DataLoader(TensorDataset, n)`, in memory",
        "PyTorch",
        "pytorch:table_rows",
        ("torch.utils.data", "pyarrow.dataset"),
        workers=_BOTH,
    ),
    "table-batches": Reader(
        "`TensorDataset` by `BatchSampler`, in memory",
        "PyTorch",
        "pytorch:table_batches",
        ("torch.utils.data", "pyarrow.dataset"),
        workers=_BOTH,
        note=_IN_MEMORY,
    ),
    "iterable-rows": Reader(
        "`IterableDataset` of rows",
        "PyTorch",
        "pytorch:iterable_rows",
        ("torch.utils.data", "pyarrow.dataset"),
        workers=_BOTH,
    ),
    "iterable-batches": Reader(
        "`IterableDataset` of pyarrow's batches",
        "PyTorch",
        "pytorch:iterable_batches",
        ("torch.utils.data", "pyarrow.dataset"),
        shuffles=False,
        workers=_BOTH,
        note=_ARROW,
    ),
    "datasets-streaming": Reader(
        "Hugging Face datasets, streaming",
        "PyTorch",
        "hugging_face:streamed",
        ("torch.utils.data", "datasets"),
        made=_DATASETS,
        workers=_BOTH,
    ),
    "datasets-map": Reader(
        "Hugging Face datasets, map style",
        "PyTorch",
        "hugging_face:mapped",
        ("torch.utils.data", "datasets"),
        made=_DATASETS,
        prepare="hugging_face:prepare",
        workers=_BOTH,
    ),
    "mosaicml-streaming": Reader(
        "MosaicML Streaming",
        "PyTorch",
        "sharded:mosaic",
        ("torch.utils.data", "streaming"),
        made=beside("mosaicml-streaming", "0.13.0"),
        prepare="sharded:write_mosaic",
        rows=200_000,
        workers=_BOTH,
    ),
    "litdata": Reader(
        "LitData",
        "PyTorch",
        "sharded:lit",
        ("torch.utils.data", "litdata"),
        made=beside("litdata", "0.2.76"),
        prepare="sharded:write_lit",
        rows=200_000,
        workers=_BOTH,
    ),
    "webdataset": Reader(
        "WebDataset",
        "PyTorch",
        "sharded:web",
        ("torch.utils.data", "webdataset"),
        made=beside("webdataset", "1.0.2"),
        prepare="sharded:write_web",
        rows=40_000,
        workers=_BOTH,
    ),
    "to_tf": Reader(
        "`to_tf(n)`", "TensorFlow", "ours:tensorflow", ("tensorflow", "batch_collection"), ours=True
    ),
    "generator": Reader(
        "`from_generator(to_batches(n))`; shuffled: `.unbatch().shuffle().batch(n)`",
        "TensorFlow",
        "tf_data:generated",
        ("tensorflow", "pyarrow.dataset"),
    ),
    "rebatch": Reader(
        "`from_generator(to_batches(131_072)).rebatch(n)`",
        "TensorFlow",
        "tf_data:rebatched",
        ("tensorflow", "pyarrow.dataset"),
        shuffles=False,
        note="it joins row groups in TensorFlow alone; ours joins them ahead of that, too",
    ),
    "tensor-slices": Reader(
        "`from_tensor_slices(a table).batch(n)`, in memory",
        "TensorFlow",
        "tf_data:in_memory",
        ("tensorflow", "pyarrow.dataset"),
    ),
    "tfrecord": Reader(
        "`TFRecordDataset`, `parse_example`",
        "TensorFlow",
        "tf_data:records",
        ("tensorflow",),
        prepare="tf_data:write_records",
        rows=400_000,
    ),
}
