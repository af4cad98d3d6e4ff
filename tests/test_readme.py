"""The README and its pages tell the truth: flags, commands, programs, the tests that they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import batch_collection
from pipeline import cli
from pipeline.options.collect import configure
from pipeline.options.flags import Parser

if TYPE_CHECKING:
    from transforms.sources.kafka.embedded import EmbeddedBroker

ROOT = Path(__file__).parent.parent
PAGES = {  # in the order in which a reader would run them
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("docs/commands.md", "docs/format.md", "docs/guarantees.md", "README.md")
}
FLAGS = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
TEXT = "\n".join(PAGES.values())
ENDING = {  # what lets a command of the README come to its end here
    "produce": ["--every=1ms", "--count=40"],
    "collect": ["--once", "-Xsecurity.protocol=PLAINTEXT"],
    "follow": ["--once"],
}
COLLECTION = Path("collected", "sensor")


def blocks(kind: str) -> list[str]:
    """Return the pages' blocks of a language."""
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", TEXT)


def commands() -> list[list[str]]:
    """Return the arguments of each batch-collection that the pages call."""
    lines = "".join(blocks("sh")).splitlines()
    return [shlex.split(each)[1:] for each in lines if each.startswith("batch-collection ")]


def command_of(words: list[str]) -> str:
    """Return the command, which need not be named."""
    return words[0] if words[0] in cli.COMMANDS else "collect"


def answer(query: str) -> list[Any]:
    """Return the rows that DuckDB finds."""
    return duckdb.connect().execute(query).fetchall()


def test_the_table_has_every_flag_of_collect_and_no_other() -> None:
    """With the default that the help gives."""
    parser = Parser()
    configure(parser)
    rows = re.findall(r"(?m)^\| `(-[^`]*)` \| (.*?) \|", FLAGS)
    actions = {action.option_strings[0]: action for action in parser._actions}  # noqa: SLF001

    assert [flag for flag, _ in rows] == [flag for flag in actions if flag != "-h"]
    for flag, shown in rows:
        default = actions[flag].default
        if isinstance(default, str):
            assert shown == f"`{default}`", flag


def test_tests_and_targets_that_are_named_are_there() -> None:
    """A guarantee whose test is gone is none."""
    named = set(re.findall(r"`(test_\w+)`", PAGES["docs/guarantees.md"]))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))

    assert named
    assert named - set(re.findall(r"(?m)^def (test_\w+)", "\n".join(sources))) == set()
    assert set(re.findall(r"(?m)^make (\w+)", "".join(blocks("sh")))) <= targets


def test_the_pipeline_in_yaml_is_the_example() -> None:
    """Which a test of its own runs."""
    example = (ROOT / "examples" / "collect_batches.yaml").read_text(encoding="utf-8")

    assert example in blocks("yaml")


def test_commands_queries_and_programs_run(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them in their order, on a broker of the test's own."""
    embedded.create_topic("sensor")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    _write_files(embedded.bootstrap_servers)

    called = commands()
    for words in called:
        local = [word.replace("localhost:9092", embedded.bootstrap_servers) for word in words]
        assert cli.main([*local, *ENDING.get(command_of(words), [])]) == 0, words
    for program in blocks("python"):
        exec(program, {"__name__": "readme"})  # noqa: S102 - the README's own

    assert {command_of(words) for words in called} == set(cli.COMMANDS) - {"demo", "init", "serve"}
    assert batch_collection.open(COLLECTION).rows == 400
    assert batch_collection.open(COLLECTION.parent / "own").rows == 300
    (query,) = blocks("sql")
    assert answer(query)[0][0] == 400


def _write_files(servers: str) -> None:
    """Write the files that the README's commands name."""
    (config,) = (each for each in blocks("yaml") if each.startswith("# collect.yaml"))
    Path("collect.yaml").write_text(config.replace("localhost:9092", servers), encoding="utf-8")
    (program,) = (each for each in blocks("python") if each.startswith("# train.py"))
    Path("train.py").write_text(program, encoding="utf-8")


def test_readers_need_what_the_table_says_for_a_column_added_later(tmp_path: Path) -> None:
    """By default DuckDB and pyarrow leave it out and Polars fails; with the options all agree."""
    old, new = ({"a": [1]}, {"a": [2], "b": [3]})
    for hour, columns in enumerate([old, new]):
        folder = tmp_path / "window_date=2026-11-24" / f"window_hour={hour:02d}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / "x.parquet")
    everything = pa.table(new).schema
    pattern = f"'{tmp_path}/**/*.parquet'"
    schema: dict[str, Any] = {"a": pl.Int64, "b": pl.Int64}

    assert len(answer(f"FROM {pattern}")[0]) == 3  # a, window_date, window_hour
    assert "b" not in ds.dataset(tmp_path).schema.names
    with pytest.raises(pl.exceptions.SchemaError):
        pl.scan_parquet(tmp_path).collect()
    with pytest.raises(pl.exceptions.SchemaError):
        pl.scan_parquet(tmp_path, missing_columns="insert").collect()

    united = answer(f"SELECT a, b FROM read_parquet({pattern}, union_by_name=true) ORDER BY a")
    scan = pl.scan_parquet(tmp_path, schema=schema, missing_columns="insert")
    table = ds.dataset(tmp_path, schema=everything).to_table()
    assert united == [(1, None), (2, 3)]
    assert scan.select("a", "b").sort("a").collect().rows() == [(1, None), (2, 3)]
    assert table.sort_by("a").to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": 3}]


def test_readers_need_what_the_table_says_for_a_column_whose_type_was_changed(
    tmp_path: Path,
) -> None:
    """By default pyarrow and Polars fail and DuckDB rounds; with the options all agree."""
    for hour, values in enumerate([[1, 2], [0.5]]):
        folder = tmp_path / "window_date=2026-11-24" / f"window_hour={hour:02d}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"a": values}), folder / "x.parquet")
    pattern, schema = f"'{tmp_path}/**/*.parquet'", pa.schema([("a", pa.float64())])
    cast = pl.ScanCastOptions(integer_cast="allow-float")

    assert 0.5 not in [row[0] for row in answer(f"SELECT a FROM {pattern}")]
    with pytest.raises(pa.ArrowInvalid):
        ds.dataset(tmp_path).to_table()
    for options in ({}, {"schema": {"a": pl.Float64}}):
        with pytest.raises(pl.exceptions.SchemaError):
            pl.scan_parquet(tmp_path, **options).collect()

    united = answer(f"SELECT a FROM read_parquet({pattern}, union_by_name=true)")
    scan = pl.scan_parquet(tmp_path, schema={"a": pl.Float64}, cast_options=cast)
    table = ds.dataset(tmp_path, schema=schema).to_table()
    for found in ([row[0] for row in united], scan.collect()["a"], table["a"].to_pylist()):
        assert sorted(found) == [0.5, 1.0, 2.0]
