"""Readers give the rows that were written; one that gives others is no result."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.readers.__main__ import Bench
from bench.readers.account import Account, WrongRowsError, values
from bench.readers.collected import collect
from bench.readers.contract import ID, VALUE, Batch, Job
from bench.readers.environments import environment
from bench.readers.known import READERS
from bench.readers.table import PAGE, RESULTS, markdown, within
from bench.readers.turn import Epoch, named
from tests.services.made import UnavailableError

ROWS = 2_500
_MODULES = {"PyTorch": "torch", "TensorFlow": "tensorflow"}


def batch(*ids: int) -> Batch:
    """Return rows as they were written."""
    return {ID: np.array(ids), VALUE: values(np.array(ids))}


def turn(reader: str, speed: float, *, size: int = 256, **changes: Any) -> dict[str, Any]:
    """Return what one measurement found."""
    found = {"rows_per_second": speed, "first_seconds": 0.02, "peak_bytes": 150_000_000}
    way = {"reader": reader, "size": size, "shuffled": False, "workers": 0}
    return {**way, **found, "worker_peak_bytes": 0, **changes}


def results(*turns: dict[str, Any]) -> dict[str, Any]:
    """Return what one run found."""
    machine = {"cpus": 2, "load": 0.1, "system": "Linux x86_64", "python": "3.11.7", "packages": {}}
    left_out = {"litdata": "torch is not installed"}
    found = {"measured_at": "2026-11-29T17:00Z", "machine": machine, "rows": ROWS}
    return {**found, "left_out": left_out, "turns": list(turns)}


def account_of(batches: list[Batch], *, whole: bool) -> None:
    """Hold batches against three rows."""
    account = Account(3)
    for each in batches:
        account.take([each])
    account.close(whole=whole)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small collection."""
    root = tmp_path_factory.mktemp("readers") / "collection"
    collect(root, ROWS)
    return root


def read_whole(name: str, collection: Path, prepared: Path) -> None:
    """Read all rows by a reader, in order and, if it can, shuffled."""
    reader = READERS[name]
    if reader.prepare is not None:
        prepared.mkdir()
        named(reader.prepare)(collection, prepared)
    for shuffled in (False, True)[: 1 + reader.shuffles]:
        job = Job(collection, prepared, 64, shuffled=shuffled, workers=0)
        batches = list(named(reader.read)(job))
        assert max(len(each[ID]) for each in batches) == 64, name
        account = Account(ROWS)
        account.take(batches)
        account.close(whole=True)
        first = [int(row) for row in np.asarray(batches[0][ID])]
        assert (first == list(range(64))) != shuffled, name


@pytest.mark.parametrize(
    "name", [name for name, reader in READERS.items() if reader.gives == "NumPy"]
)
def test_a_reader_gives_all_rows_once(collection: Path, tmp_path: Path, name: str) -> None:
    """In batches of the size that was asked for."""
    read_whole(name, collection, tmp_path / name)


@pytest.mark.parametrize("gives", _MODULES)
def test_the_readers_of_a_framework_give_all_rows_once(
    collection: Path, tmp_path: Path, gives: str
) -> None:
    """Those that need nothing beside it, in one process, since importing takes long."""
    if importlib.util.find_spec(_MODULES[gives]) is None:
        pytest.skip(f"{_MODULES[gives]} is not installed")
    readers = READERS.items()
    names = [name for name, each in readers if each.gives == gives and each.made is None]
    code = (
        "import sys; from pathlib import Path; from tests.bench.test_readers import read_whole\n"
        "for name in sys.argv[3:]: read_whole(name, Path(sys.argv[1]), Path(sys.argv[2], name))"
    )
    command = [sys.executable, "-c", code, str(collection), str(tmp_path), *names]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_turn_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    """With the rows held against those that were written."""
    plain, shuffled = Bench(tmp_path, ROWS, 60).turns("to_numpy_batches", [256])
    assert (plain["shuffled"], shuffled["shuffled"]) == (False, True)
    assert plain["whole"]
    assert plain["rows"] == ROWS
    assert plain["rows_per_second"] > 0
    assert plain["peak_bytes"] >= plain["imported_bytes"] > 0


@pytest.mark.parametrize(
    ("batches", "whole"),
    [
        ([batch(0, 1)], True),
        ([batch(0, 1), batch(1, 2)], False),
        ([batch(0, 0, 1)], False),
        ([batch(0, 3)], False),
        ([{ID: np.arange(3), VALUE: values(np.arange(3)) + 1}], False),
    ],
    ids=["a row is missing", "a row again", "a row twice", "a row of no one", "values of others"],
)
def test_rows_that_were_not_written_are_no_result(batches: list[Batch], *, whole: bool) -> None:
    """So a reader that leaves out, repeats or mixes up rows is not measured."""
    with pytest.raises(WrongRowsError):
        account_of(batches, whole=whole)


def test_some_rows_are_right_where_the_time_was_over() -> None:
    """In any order."""
    account_of([batch(2, 0)], whole=False)


def test_what_was_left_is_reckoned_from_what_was_read() -> None:
    """The first batch takes its time once."""
    whole = Epoch(1.0, 10, 10.0, 100, 10.0, left=False)
    assert whole.all_seconds(100) == 10
    assert whole._replace(left=True).all_seconds(1_000) == 1 + 9 / 90 * 990


def test_what_is_ahead_is_bold_and_explained() -> None:
    """What differs by less than a twentieth counts as the same."""
    table = markdown(
        results(turn("to_numpy_batches", 2e6), turn("polars", 3e6), turn("duckdb", 2.05e6))
    )
    assert "| 2,000 |" in table
    assert "| **3,000** |" in table
    assert "| 2,050 |" in table
    assert f"- {READERS['polars'].title}: {READERS['polars'].note}" in table
    assert READERS["duckdb"].note not in table
    assert "Left out: torch is not installed." in table


def test_all_that_was_ahead_is_explained() -> None:
    """In the results that are shown."""
    assert "not explained yet" not in markdown(json.loads(RESULTS.read_text(encoding="utf-8")))
    assert f"- {READERS['webdataset'].title}: not explained yet" in markdown(
        results(turn("to_torch", 2e6), turn("webdataset", 3e6))
    )


def test_workers_have_memory_of_their_own() -> None:
    """It stands beside that of the loop."""
    both = turn("to_torch", 2e6, workers=2, worker_peak_bytes=50_000_000)
    assert "150 + 2 x 50 |" in markdown(results(both))


def test_a_table_takes_the_place_of_the_one_before() -> None:
    """And nothing else of the page."""
    page = PAGE.read_text(encoding="utf-8")
    once = within(page, "| a table |")
    assert "| a table |" in once
    assert within(once, markdown(json.loads(RESULTS.read_text(encoding="utf-8")))) == page


def test_what_is_not_installed_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """Before anything is set up."""
    reader = replace(READERS["webdataset"], modules=("no_such_framework", "webdataset"))
    with pytest.raises(UnavailableError, match="no_such_framework is not installed"):
        environment(reader, tmp_path)
