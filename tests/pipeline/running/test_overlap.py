"""Two collectors of one machine at the same collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError, OtherCollectorError
from pipeline.cli import main
from pipeline.running.outcome import OTHER_COLLECTOR, exit_code
from pipeline.running.overlap import held
from tests.collecting import CollectorProcess, Stream, run_command

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from transforms.sources.kafka.embedded import EmbeddedBroker


def test_a_directory_is_held_as_long_as_the_block_lasts(tmp_path: Path) -> None:
    """By one; who comes later is told, and one that is not there is nobody's."""
    missing = tmp_path / "missing"
    with held([tmp_path, missing]) as first:
        assert first == []
        with held([missing, tmp_path]) as second:
            assert second == [tmp_path]
    with held([tmp_path]) as third:
        assert third == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_skipped_while_another_collects(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """From its first moment on, and no longer than it lasts; the exit code says so."""
    stream, flags = Stream(embedded), ("--once", "--if_running=skip")
    with CollectorProcess([stream], tmp_path) as collector:
        collector.wait_for(" begins ")
        skipped = run_command([stream], tmp_path, *flags)
        assert skipped.returncode == OTHER_COLLECTOR
        assert skipped.stderr == f"skipped: another collector holds {tmp_path / stream.name}\n"
    assert run_command([stream], tmp_path, *flags).returncode == 0


def test_who_meets_a_rival_ends_with_the_same_code() -> None:
    """A failure is another one."""
    assert exit_code(OtherCollectorError("another")) == OTHER_COLLECTOR
    assert exit_code(CollectionError("any")) == 1


def test_only_collectors_of_this_machine_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    """So a bucket and an engine, where others may be at work, are refused."""
    words = ["--bootstrap_servers=localhost:1", "--topics=a", "--if_running=skip"]
    assert main([*words, "--output=gs://bucket/collected"]) == 2
    assert capsys.readouterr().err == (
        "error: --if_running=skip finds collectors of this machine, in directories of its; with "
        "--runner=DirectRunner --output=gs://bucket/collected leave it out\n"
    )
    assert main([*words, "--output=collected", "--runner=PrismRunner"]) == 2
    assert "--runner=PrismRunner" in capsys.readouterr().err
