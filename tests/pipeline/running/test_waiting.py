"""Waiting for a job: what is said and the exit code, whatever the engine or a user does."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from batch_collection.errors import CollectionError, LogError, OtherCollectorError
from pipeline.options.engine import EngineOptions
from pipeline.running import engine, waiting
from pipeline.running.outcome import OTHER_COLLECTOR
from pipeline.running.waiting import Heard, Submitted
from transforms.process.events import Finished, GivenUp

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = "Pipeline job failed in state FAILED: "


class GoneError(grpc.RpcError):  # type: ignore[misc]
    """What a stream ends with whose server died."""

    def details(self) -> str:
        """Say why."""
        return "Socket closed"


class Job:
    """A job as Beam shows it: it ends as it is told, once it is cancelled if so."""

    def __init__(
        self, end: str | Exception, *, cancelled: bool = False, mute: bool = False
    ) -> None:
        """Take what it ends with; ``mute``: it never does."""
        self._job_id, self._job_service = "id", self
        self._end, self._mute = end, mute
        self.cancelled = threading.Event()
        if not cancelled:
            self.cancelled.set()

    def Cancel(self, asked: Any, timeout: float) -> None:  # noqa: ARG002, N802 - Beam's name
        """Cancel it."""
        assert asked.job_id == "id"
        self.cancelled.set()

    def wait_until_finish(self) -> str:
        """End."""
        self.cancelled.wait()
        if self._mute:
            threading.Event().wait()
        if isinstance(self._end, Exception):
            raise self._end
        return self._end


def waited(
    job: Job, heard: Heard | None = None, *, where: str = "flink:8099", once: bool = True
) -> int:
    """Wait for a job."""
    return Submitted(job, "collect-orders", where, once).wait(heard or Heard(topics=1))


@pytest.mark.parametrize(
    ("end", "once", "code", "said"),
    [
        ("DONE", True, 0, ""),
        ("DONE", False, OTHER_COLLECTOR, "error: another collector works on what job collect-ord"),
        (GoneError(), True, 1, "error: the engine went away: Socket closed; nothing is lost"),
        (
            RuntimeError(f"{FAILED}java: no slots\n\tat"),
            True,
            1,
            f"error: {FAILED}java: no slots\n",
        ),
        (
            RuntimeError(
                f"{FAILED}x batch_collection.errors.OtherCollectorError: B won [while running x"
            ),
            True,
            OTHER_COLLECTOR,
            "error: B won\n",
        ),
    ],
)
def test_how_a_job_ended_is_one_line(
    capsys: pytest.CaptureFixture[str], end: str | Exception, code: int, said: str, *, once: bool
) -> None:
    """Its exit code is that of the error, if it is one of ours."""
    assert waited(Job(end), once=once) == code
    found = capsys.readouterr().err
    assert found.startswith(said)
    assert found.count("\n") == (code != 0)


def test_a_job_whose_topics_are_all_collected_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the engine would go on."""
    monkeypatch.setattr(waiting, "_OWN_END_SECONDS", 0.01)
    job, heard = Job(RuntimeError("failed in state CANCELLED"), cancelled=True), Heard(topics=2)
    heard(Finished("a"))
    heard(Finished("a"))
    assert not heard.has_all
    heard(Finished("b"))
    assert waited(job, heard) == 0
    assert job.cancelled.is_set()


def test_topics_that_are_given_up_end_the_job_once_no_other_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last error is its exit code."""
    monkeypatch.setattr(waiting, "_OWN_END_SECONDS", 0.01)
    heard = Heard(topics=2)
    heard(GivenUp("a", LogError("damaged")))
    assert capsys.readouterr().err == "error: damaged; the others go on\n"
    heard(GivenUp("b", OtherCollectorError("B won")))
    assert waited(Job("CANCELLED", cancelled=True), heard) == OTHER_COLLECTOR
    assert capsys.readouterr().err == "error: B won\n"


@pytest.mark.parametrize(
    ("end", "mute", "where", "code", "said"),
    [
        (RuntimeError("failed in state CANCELLED"), False, "flink:8099", 0, "stopped; the next"),
        (GoneError(), False, "", 0, "stopped; the next run"),  # a Prism of ours gets it, too
        (GoneError(), False, "flink:8099", 1, "error: flink:8099 does not say that job collect-o"),
        ("DONE", True, "flink:8099", 1, "error: flink:8099 does not say that job collect-orders"),
    ],
)
def test_stopped_is_said_when_the_engine_says_so(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    end: str | Exception,
    where: str,
    code: int,
    said: str,
    *,
    mute: bool,
) -> None:
    """Else which job is to be ended, and how."""
    monkeypatch.setattr(waiting, "_CANCEL_SECONDS", 0.2 if mute else 30)
    heard = Heard(topics=1)
    heard.stop()
    assert waited(Job(end, cancelled=True, mute=mute), heard, where=where) == code
    assert capsys.readouterr().err.startswith(said)


OFFERED: dict[str, dict[str, Any]] = {"--number_of_execution_retries": {}}
SMALL = "--max_bundle_size=1"
AGAIN = (SMALL, "--number_of_execution_retries=100", "--execution_retry_delay=10000")
WHOLE = (
    SMALL,
    "--finish_bundle_before_checkpointing",
)


@pytest.mark.parametrize(
    ("runner", "offered", "given", "more"),
    [
        ("PortableRunner", OFFERED, (), AGAIN),
        ("PortableRunner", {}, (), ()),
        ("PrismRunner", OFFERED, (), ()),
        ("PortableRunner", OFFERED, ("--number_of_execution_retries=3",), (SMALL,)),
        ("PortableRunner", OFFERED, ("--checkpointing_interval=1000",), WHOLE),
        ("PortableRunner", OFFERED, ("--checkpointing_interval=1", *WHOLE), ()),
    ],
)
def test_flink_is_told_to_try_again(
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
    offered: dict[str, dict[str, Any]],
    given: tuple[str, ...],
    more: tuple[str, ...],
) -> None:
    """No other engine is, and what users say wins; bundles are whole in their checkpoints."""
    monkeypatch.setattr(engine, "flags_of", lambda _: offered)
    asked = EngineOptions(runner, given, timedelta(minutes=5), "flink:8099")
    assert engine._for_flink(asked, once=False).flags == (*given, *more)  # noqa: SLF001


@pytest.mark.parametrize("is_here", [True, False])
def test_a_job_that_nobody_would_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, *, is_here: bool
) -> None:
    """With checkpoints its sources stay open, and workers elsewhere can't tell who waits."""
    monkeypatch.setattr(engine, "flags_of", lambda _: OFFERED)
    for_flink: Callable[..., EngineOptions] = engine._for_flink  # noqa: SLF001
    given = ("--checkpointing_interval=1000",)
    asked = EngineOptions(
        "PortableRunner", given, timedelta(minutes=5), "flink:8099", has_workers_here=is_here
    )
    if is_here:
        assert for_flink(asked, once=True).flags == (*given, *WHOLE)
        return
    with pytest.raises(CollectionError, match="a job with --once does not end whose workers"):
        for_flink(asked, once=True)
