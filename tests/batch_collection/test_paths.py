"""Names of files: where they are, how they sort."""

from __future__ import annotations

from datetime import timedelta

import pytest

from batch_collection.paths import (
    batch_path,
    carry_path,
    dead_letters_path,
    draft_path,
    drafted_path,
    entry_cycle,
    entry_path,
    manifest_path,
    manifest_window,
    new_token,
    of_cycle,
    staged_cycle,
    staged_path,
    stub_number,
    stub_path,
    visible_place,
)
from tests.builders import at


def test_a_batch_lies_in_the_folder_of_its_window() -> None:
    """Hive folders with names that no payload has."""
    assert batch_path(at("10:30:00"), 42, 1, 7, "3fa9c1d2", ".parquet") == (
        "data/window_date=2026-11-22/window_hour=10/"
        "20261122T103000Z-0000000042-01-0007-3fa9c1d2.parquet"
    )


@pytest.mark.parametrize(("layout", "hour"), [("padded", "04"), ("plain", "4")])
def test_hours_are_written_as_the_collection_was_begun(layout: str, hour: str) -> None:
    """Format 1 pads them, which readers take for text or numbers by the hours that are there."""
    path = batch_path(at("04:30:00"), 42, 1, 7, "3fa9c1d2", ".parquet", layout)

    assert path.startswith(f"data/window_date=2026-11-22/window_hour={hour}/20261122T043000Z-")


def test_batches_sort_by_window_then_cycle() -> None:
    """Files in the order of their names are in the order of time."""
    windows = [at("09:59:00"), at("10:00:00"), at("10:01:00")]
    paths = [
        batch_path(window, cycle, 0, number, new_token(), ".parquet")
        for window in windows
        for cycle in (2, 10)
        for number in (0, 11)
    ]

    assert paths == sorted(paths, key=lambda path: path.rsplit("/", maxsplit=1)[1])


def test_a_file_is_staged_under_its_cycle() -> None:
    """The token stays in the name, so that no two attempts write one file."""
    path = batch_path(at("10:30:00"), 42, 1, 7, "3fa9c1d2", ".parquet")
    staged = staged_path(42, path)

    assert staged == "staging/0000000042/20261122T103000Z-0000000042-01-0007-3fa9c1d2.parquet"
    assert staged_cycle(staged) == 42
    assert staged_cycle(carry_path(42, 1, 7, "3fa9c1d2")) == 42


def test_a_file_may_come_to_another_cycle_than_it_was_staged_for() -> None:
    """Its name is what it had been there, token and all."""
    late = at("10:30:00").replace(microsecond=250_000)
    for suffix in (".parquet", ".jsonl.gz"):
        paths = [batch_path(late, cycle, 1, 7, "3fa9c1d2", suffix) for cycle in (1001, 2)]
        assert of_cycle(paths[0], 2) == paths[1]
    letters = [dead_letters_path(at("10:30:00"), cycle, 1, "3fa9c1d2") for cycle in (1001, 2)]
    assert of_cycle(letters[0], 2) == letters[1]


def test_dead_letters_lie_apart_from_the_data() -> None:
    """Readers of data/ with their defaults never meet them."""
    assert dead_letters_path(at("10:30:00"), 1, 0, "3fa9c1d2") == (
        "dead_letters/window_date=2026-11-22/20261122T103000Z-0000000001-00-3fa9c1d2.parquet"
    )


def test_windows_shorter_than_a_second_have_their_own_manifests() -> None:
    """A fraction stands in the name where there is one."""
    first, second = at("10:30:00"), at("10:30:00") + timedelta(milliseconds=500)

    assert manifest_path(first, 1) == "windows/20261122T103000Z.r1.json"
    assert manifest_path(second, 1) == "windows/20261122T103000.500000Z.r1.json"


def test_a_draft_tells_what_it_is_written_for() -> None:
    """So a sweep knows whether anybody can need it."""
    assert drafted_path(draft_path(entry_path(3), new_token())) == entry_path(3)
    assert drafted_path(staged_path(1, "data/x/a.parquet")) is None
    assert staged_cycle(draft_path(entry_path(3), new_token())) is None


def test_paths_tell_what_they_are_of() -> None:
    """Cycles of entries, numbers of stubs, windows of manifests; None where it is no such file."""
    assert entry_cycle(entry_path(42)) == 42
    assert stub_number(stub_path(7)) == 7
    assert manifest_window(manifest_path(at("10:30:00"), 12)) == at("10:30:00")
    batch = batch_path(at("10:30:00"), 42, 1, 7, "3fa9c1d2", ".jsonl.gz")
    assert visible_place(batch) == (at("10:30:00"), 42)
    letters = dead_letters_path(at("10:30:00"), 43, 0, "3fa9c1d2")
    assert visible_place(letters) == (at("10:30:00"), 43)

    assert entry_cycle("log/checkpoint-0-999.parquet") is None
    assert stub_number("expired/notes.txt") is None
    assert manifest_window("windows/notes.txt") is None
    assert [visible_place(path) for path in ("data/x.parquet", "data/a-b-c.parquet")] == [None] * 2


def test_tokens_differ() -> None:
    """Eight hexadecimal digits, drawn at random."""
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) > 90
    assert all(len(token) == 8 and int(token, 16) >= 0 for token in tokens)
