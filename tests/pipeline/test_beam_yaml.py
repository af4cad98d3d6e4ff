"""CollectBatches in Beam YAML: the example as a user starts it, and what its arguments become."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.transforms.window import TimestampedValue

import batch_collection
from pipeline.beam_yaml import collect_batches

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "collect_batches.yaml"
START = datetime(2026, 11, 22, 10, 30, tzinfo=timezone.utc)
RUN = (  # Beam's imports load both, which is slow, and they can't be in one process
    "import sys; sys.modules.update(tensorflow=None, torch=None); "
    "from apache_beam.yaml import main; main.run()"
)


def test_the_example_collects_what_it_read(tmp_path: Path) -> None:
    """By name, in windows of the column that it names."""
    for module in ("docstring_parser", "jinja2", "jsonschema"):
        pytest.importorskip(module, reason='no Beam YAML: pip install -e ".[yaml]"')
    seconds = [START.timestamp() + 0.5 * number for number in range(150)]
    (tmp_path / "readings").mkdir()
    rows = pa.table({"at": seconds, "value": range(150)})
    pq.write_table(rows, tmp_path / "readings" / "a.parquet")

    done = subprocess.run(
        [sys.executable, "-c", RUN, f"--yaml_pipeline_file={EXAMPLE}", "--runner=FnApiRunner"],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    collection = batch_collection.open(tmp_path / "collected" / "readings")
    assert collection.table(["at", "value"]).sort_by("value").equals(rows)
    assert [(window.start, window.rows) for window in collection.windows()] == [
        (START, 120),
        (START + timedelta(minutes=1), 30),
    ]


def test_columns_get_the_types_that_the_schema_says(tmp_path: Path) -> None:
    """Written as for ``collect --schema``, nested ones too."""
    collect = collect_batches(
        output=str(tmp_path / "out"),
        interval="1m",
        batch_size=10,
        output_format="jsonl",
        schema={"value": "double", "place": {"tags": ["string"]}},
    )

    with TestPipeline(runner="FnApiRunner") as pipeline:
        _ = pipeline | beam.Create([TimestampedValue({"value": 1}, START.timestamp())]) | collect

    place = pa.struct([("tags", pa.list_(pa.string()))])
    schema = batch_collection.open(tmp_path / "out").table().schema
    assert (schema.field("value").type, schema.field("place").type) == (pa.float64(), place)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"interval": 10}, "interval: not a duration: '10'"),
        ({"allowed_lateness": "1 day"}, "allowed_lateness: not a duration: '1 day'"),
        ({"schema": {"value": "floats"}}, "field value has unknown type 'floats'"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
    ],
)
def test_an_argument_that_is_wrong_is_named(given: dict[str, Any], message: str) -> None:
    """Beam adds the line of the file."""
    right: dict[str, Any] = {"output": "out", "interval": "1m", "batch_size": 10}

    with pytest.raises(ValueError, match=message):
        collect_batches(**{**right, **given})
